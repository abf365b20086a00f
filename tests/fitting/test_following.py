"""One run on several nodes: two local processes, and what is said when one is not as it must."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from node_processes import (
    PATIENCE_S,
    as_two_nodes,
    await_line,
    ended,
    lead_at,
    node_0_seen_from_node_1,
    say_and_go,
    start,
)
from small_runs import QUICK, Told, write_photos

from pocketvision.budget import Budget
from pocketvision.errors import BudgetError, ConfigError, PocketvisionError
from pocketvision.fitting import following, leading
from pocketvision.fitting.artefact import Artefact, load
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.following import follow, refuse_other_words
from pocketvision.fitting.leading import Lead
from pocketvision.fitting.pipeline import run_fit
from pocketvision.storage import sha256_file
from pocketvision.train.nodes import Node

WORDS = (
    *("--latency", "200ms", "--size", "2MB", "--models", "mobilenet_v1", "--width", "0.25"),
    *("--resolution", "32", "--runtime", "onnxruntime", "--precision", "f32", "--device", "cpu"),
    *("--max-drop", "100", "--epochs", "3", "--batch-size", "16"),
)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Node 0 at a free port; the environment is that of node 1."""
    return node_0_seen_from_node_1(monkeypatch)


def agree() -> None:
    """Node 0 was given the same words."""


def test_follower_with_other_words_is_refused_and_node_0_told(node: Node, fitted: Artefact) -> None:
    config = replace(fitted.state.config, seed=3, nodes=2)

    def refuse() -> None:
        refuse_other_words(config, fitted.state.config)

    with lead_at(node, fitted.folder) as lead, ThreadPoolExecutor() as pool:
        other = pool.submit(follow, config, fitted.folder, Told(), refuse)
        before = "Node 1 ended before the training began, and says why"
        with pytest.raises(PocketvisionError, match=before), lead.training(fitted.folder):
            pass
        with pytest.raises(ConfigError, match=r"given nodes=2, not 1; seed=3, not 0 as node 0; gi"):
            other.result(30)


def test_follower_that_does_not_see_the_folder_says_so(
    node: Node, fitted: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SHARED_S", 0)
    config = replace(fitted.state.config, nodes=2)
    with lead_at(node, fitted.folder) as lead, ThreadPoolExecutor() as pool:
        other = pool.submit(follow, config, tmp_path / "elsewhere", Told(), agree)
        with pytest.raises(PocketvisionError, match="Node 1 ended"), lead.training(fitted.folder):
            pass
        with pytest.raises(ConfigError, match=r"run\.json is not here what it is on node 0; --out"):
            other.result(30)


def test_follower_ends_as_node_0_does(node: Node, fitted: Artefact) -> None:
    config = replace(fitted.state.config, nodes=2)
    for code, kind in ((1, PocketvisionError), (2, PocketvisionError), (3, BudgetError)):
        with ThreadPoolExecutor() as pool:
            told = Told()
            lead = Lead(node, fitted.folder, told)
            other = pool.submit(follow, config, fitted.folder, told, agree)
            await_line(told, "Reading images")
            lead.end(code, "no more.")
            with pytest.raises(kind, match=r"^Node 0 ended the run: no more\.$") as caught:
                other.result(30)
            assert caught.value.exit_code == code


def test_node_0_that_is_gone_is_a_sentence(node: Node, fitted: Artefact) -> None:
    config = replace(fitted.state.config, nodes=2)
    door = socket.create_server(("", node.port))
    with ThreadPoolExecutor() as pool:
        told = Told()
        other = pool.submit(follow, config, fitted.folder, told, agree)
        await_line(told, "Reading images")
        door.close()
        with pytest.raises(PocketvisionError, match="Node 0 closed the connection before the run"):
            other.result(30)


def test_nodes_that_do_not_come_are_waited_for_and_named(
    node: Node, fitted: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "PATIENCE_S", 0.1)
    with lead_at(node, fitted.folder) as lead:
        stranger = threading.Thread(target=say_and_go, args=(node, b"hello\n"))
        stranger.start()
        with (
            pytest.raises(ConfigError, match="1 of 2 nodes came within"),
            lead.training(fitted.folder),
        ):
            pass
        stranger.join(30)
    monkeypatch.setattr(following, "PATIENCE_S", -1)
    config = replace(fitted.state.config, nodes=2)
    with pytest.raises(ConfigError, match=r"Node 0 does not answer at 127\.0\.0\.1:\d+ \("):
        follow(config, fitted.folder, Told(), agree)


def test_port_that_is_taken_is_said(node: Node, tmp_path: Path) -> None:
    with (
        socket.create_server(("", node.port)),
        pytest.raises(ConfigError, match=r"Node 0 cannot listen .* MASTER_PORT=\d+: .* in use"),
    ):
        Lead(node, tmp_path, Told())


def test_what_the_table_of_a_target_chose_is_no_other_word() -> None:
    here = FitConfig(data="photos", budget=Budget(latency_ms=1.0), target="table.json")
    there = replace(here, runtimes=("onnxruntime",), precisions=("f32",))
    refuse_other_words(here, there)
    with pytest.raises(
        ConfigError, match=r"given runtimes=\(\), not \('onnxruntime',\); precisions="
    ):
        refuse_other_words(replace(here, target=None), replace(there, target=None))


@pytest.mark.slow
def test_two_nodes_come_to_what_two_devices_do(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=20)
    out = tmp_path / "nodes"
    first, second = as_two_nodes("fit", str(photos), "--out", str(out), *WORDS)
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "Traceback" not in first[1] + second[1]
    assert "Measuring" in first[1]
    assert "Measuring" not in second[1]
    two = tmp_path / "devices"
    (alone,) = ended(
        start(None, 0, "fit", str(photos), "--out", str(two), *WORDS, "--devices", "2")
    )
    assert alone[0] == 0, alone
    assert load(out).shipped.files.keys() == load(two).shipped.files.keys()
    network = "network.safetensors"
    assert sha256_file(out / network) == sha256_file(two / network)


@pytest.mark.slow
def test_two_nodes_step_back_together_and_fail_together(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=20)
    words = ("fit", str(photos), "--out", str(tmp_path / "out"), *WORDS)
    first, second = as_two_nodes(*words, "--learning-rate", "100")
    assert (first[0], second[0]) == (1, 1), (first, second)
    assert "It had diverged before" in first[1]
    assert "Node 0 ended the run: The training loss became" in second[1]
    assert "Traceback" not in first[1] + second[1]


@pytest.mark.slow
def test_control_c_ends_a_follower_that_trains_and_node_0_says_which(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=20)
    out, port = tmp_path / "out", find_free_network_port()
    words = ("fit", str(photos), "--out", str(out), *WORDS, "--nodes", "2", "--epochs", "9000")
    nodes = start(0, port, *words), start(1, port, *words)
    until = time.monotonic() + PATIENCE_S
    while not (out / "training" / "metrics.csv").exists() and time.monotonic() < until:
        time.sleep(0.1)
    nodes[1].send_signal(signal.SIGINT)
    first, second = ended(*nodes)
    assert (first[0], second[0]) == (2, 130), (first, second)
    assert "Node 1 ended during the training, and says why." in first[1]
    assert "Traceback" not in first[1] + second[1]


def test_nodes_are_refused_before_anything_where_the_environment_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_RANK", raising=False)
    monkeypatch.delenv("SLURM_NODEID", raising=False)
    with pytest.raises(ConfigError, match="nodes=2, and the environment lacks NODE_RANK"):
        run_fit(replace(QUICK, data="photos", nodes=2), tmp_path / "out")
    assert not list(tmp_path.iterdir())
