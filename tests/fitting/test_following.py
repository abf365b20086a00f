"""One run on several nodes: two local processes, and what is said when one is not as it must."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from small_runs import QUICK, Told, write_photos

from pocketvision.errors import BudgetError, ConfigError, PocketvisionError
from pocketvision.fitting import following
from pocketvision.fitting.artefact import Artefact, load
from pocketvision.fitting.following import Lead, follow
from pocketvision.fitting.pipeline import run_fit
from pocketvision.storage import sha256_file
from pocketvision.train.nodes import Node

PATIENCE_S = 240  # for a whole run; a test never waits longer
WORDS = (
    *("--latency", "200ms", "--size", "2MB", "--models", "mobilenet_v1", "--width", "0.25"),
    *("--resolution", "32", "--runtime", "onnxruntime", "--precision", "f32", "--device", "cpu"),
    *("--max-drop", "100", "--epochs", "3", "--batch-size", "16"),
)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Node 0 at a free port; the environment is that of node 1."""
    port = find_free_network_port()
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    return Node(rank=0, nodes=2, address="127.0.0.1", port=port)


@contextmanager
def lead_at(node: Node, out: Path) -> Iterator[Lead]:
    lead = Lead(node, out, Told())
    try:
        yield lead
    finally:
        lead.end(2, "")


def test_follower_with_other_words_is_refused_and_node_0_told(node: Node, fitted: Artefact) -> None:
    config = replace(fitted.state.config, seed=3)
    with lead_at(node, fitted.folder) as lead, ThreadPoolExecutor() as pool:
        other = pool.submit(follow, replace(config, nodes=2), fitted.folder, Told())
        before = "Node 1 ended before the training began, and says why"
        with pytest.raises(PocketvisionError, match=before), lead.training():
            pass
        with pytest.raises(ConfigError, match=r"given nodes=2, not 1; seed=3, not 0 as node 0; gi"):
            other.result(30)


def test_follower_that_does_not_see_the_folder_says_so(
    node: Node, fitted: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SHARED_S", 0)
    config = replace(fitted.state.config, nodes=2)
    with lead_at(node, fitted.folder) as lead, ThreadPoolExecutor() as pool:
        other = pool.submit(follow, config, tmp_path / "elsewhere", Told())
        with pytest.raises(PocketvisionError, match="Node 1 ended"), lead.training():
            pass
        with pytest.raises(ConfigError, match=r"run\.json is not here what it is on node 0; --out"):
            other.result(30)


def test_follower_ends_as_node_0_does(node: Node, fitted: Artefact) -> None:
    config = replace(fitted.state.config, nodes=2)
    for code, kind in ((1, PocketvisionError), (2, PocketvisionError), (3, BudgetError)):
        with ThreadPoolExecutor() as pool:
            told = Told()
            lead = Lead(node, fitted.folder, told)
            other = pool.submit(follow, config, fitted.folder, told)
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
        other = pool.submit(follow, config, fitted.folder, told)
        await_line(told, "Reading images")
        door.close()
        with pytest.raises(PocketvisionError, match="Node 0 closed the connection before the run"):
            other.result(30)


def test_nodes_that_do_not_come_are_waited_for_and_named(
    node: Node, fitted: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", 0.1)
    with lead_at(node, fitted.folder) as lead:
        stranger = threading.Thread(target=say_and_go, args=(node, b"hello\n"))
        stranger.start()
        with pytest.raises(ConfigError, match="1 of 2 nodes came within"), lead.training():
            pass
        stranger.join(30)
    monkeypatch.setattr(following, "PATIENCE_S", -1)
    config = replace(fitted.state.config, nodes=2)
    with pytest.raises(ConfigError, match=r"Node 0 does not answer at 127\.0\.0\.1:\d+ \("):
        follow(config, fitted.folder, Told())


def test_port_that_is_taken_is_said(node: Node, tmp_path: Path) -> None:
    with (
        socket.create_server(("", node.port)),
        pytest.raises(ConfigError, match=r"Node 0 cannot listen .* MASTER_PORT=\d+: .* in use"),
    ):
        Lead(node, tmp_path, Told())


def say_and_go(node: Node, words: bytes) -> None:
    with socket.create_connection((node.address, node.port)) as stranger:
        stranger.sendall(words)


def await_line(told: Told, sentence: str) -> None:
    until = time.monotonic() + 30
    while sentence not in told.sentences:
        assert time.monotonic() < until
        time.sleep(0.01)


def start(rank: int | None, port: int, *words: str) -> subprocess.Popen[str]:
    """`fit` as a process of its own, as a node if it has a rank."""
    node = {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "pocketvision", "fit", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(node if rank is not None else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Exit codes and all that was said; whatever happens, nothing of them is left."""
    try:
        said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
        codes = [process.returncode for process in processes]
        return [(code, " ".join(out.split())) for code, out in zip(codes, said, strict=True)]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


@pytest.mark.slow
def test_two_nodes_come_to_what_two_devices_do(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=20)
    out, port = tmp_path / "nodes", find_free_network_port()
    words = (str(photos), "--out", str(out), *WORDS, "--nodes", "2")
    first, second = ended(start(0, port, *words), start(1, port, *words))
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "Traceback" not in first[1] + second[1]
    assert "Measuring" in first[1]
    assert "Measuring" not in second[1]
    two = tmp_path / "devices"
    (alone,) = ended(start(None, 0, str(photos), "--out", str(two), *WORDS, "--devices", "2"))
    assert alone[0] == 0, alone
    assert load(out).shipped.files.keys() == load(two).shipped.files.keys()
    network = "network.safetensors"
    assert sha256_file(out / network) == sha256_file(two / network)


@pytest.mark.slow
def test_two_nodes_step_back_together_and_fail_together(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=20)
    out, port = tmp_path / "out", find_free_network_port()
    words = (str(photos), "--out", str(out), *WORDS, "--nodes", "2", "--learning-rate", "100")
    first, second = ended(start(0, port, *words), start(1, port, *words))
    assert (first[0], second[0]) == (1, 1), (first, second)
    assert "It had diverged before" in first[1]
    assert "Node 0 ended the run: The training loss became" in second[1]
    assert "Traceback" not in first[1] + second[1]


@pytest.mark.slow
def test_control_c_ends_a_follower_that_trains_and_node_0_says_which(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=20)
    out, port = tmp_path / "out", find_free_network_port()
    words = (str(photos), "--out", str(out), *WORDS, "--nodes", "2", "--epochs", "9000")
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
