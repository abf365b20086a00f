"""Searches and narrowings on several nodes: two local processes, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from node_processes import as_two_nodes, ended, lead_at, node_0_seen_from_node_1, start
from small_runs import Told, write_photos
from target_tables import table_of, write_table
from tiny_space import TINY_SPACE

from pocketvision.budget import Budget
from pocketvision.compress.netadapt import narrowest
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ConfigError, PocketvisionError
from pocketvision.fitting.artefact import Artefact, load, read_state
from pocketvision.fitting.target_table import TargetTable
from pocketvision.models.spaces import find_space
from pocketvision.narrowing.state import NarrowedStep
from pocketvision.searching.along import follow_search, follow_shrink
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import SearchConfig, SearchPlan, SearchState
from pocketvision.searching.shrink import run_shrink
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.storage import sha256_file, to_json, write_atomic
from pocketvision.train.nodes import Node

NETWORK = "network.safetensors"
ALONE = ("--device", "cpu", "--devices", "2")  # what two nodes come to


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Node 0 at a free port; the environment is that of node 1."""
    return node_0_seen_from_node_1(monkeypatch)


@pytest.fixture
def searched(photos: Path) -> SearchConfig:
    return SearchConfig(data=str(photos), budget=Budget(latency_ms=3.0), nodes=2)


@pytest.fixture
def shrunk(photos: Path, fitted: Artefact) -> ShrinkConfig:
    return ShrinkConfig(
        source=str(fitted.folder),
        images=str(photos),
        budget=Budget(latency_ms=3.0),
        augmentation=Augmentation(),
        nodes=2,
    )


def begun_search(config: SearchConfig, out: Path) -> None:
    """What node 0 writes when it begins."""
    plan = SearchPlan(
        before_s=0.0,
        supernet_steps=1,
        supernet_s=0.0,
        scoring_s=0.0,
        evaluations=1,
        generation=1,
        netadapt=False,
        arm_s=None,
    )
    state = SearchState(
        config=config,
        fingerprint="",
        space=find_space("v3_small"),
        runtime="onnxruntime",
        precision="f32",
        scale=1.0,
        limit_ms=3.0,
        threads=1,
        plan=plan,
    )
    write_atomic(out / "searching" / "search.json", to_json(state))


def begun_shrink(config: ShrinkConfig, fitted: Artefact, out: Path) -> None:
    """What node 0 writes when it begins."""
    state = ShrinkState(
        config=config,
        fingerprint="",
        runtime="onnxruntime",
        precision="f32",
        step=0.01,
        brief_steps=1,
        threads=1,
        steps=(NarrowedStep(network=fitted.classifier.spec, latency=None, accuracy=0.5),),
    )
    write_atomic(out / "shrinking" / "shrink.json", to_json(state))


def test_node_with_another_search_is_refused_and_node_0_told(
    node: Node, searched: SearchConfig, tmp_path: Path
) -> None:
    """Workers are no matter of a node that scores nothing."""
    begun_search(replace(searched, method="rl", workers=2), tmp_path)
    arm = tmp_path / "searching" / "arms" / "search"
    with lead_at(node, tmp_path) as lead, ThreadPoolExecutor() as pool:
        other = pool.submit(follow_search, searched, tmp_path, Told())
        with pytest.raises(PocketvisionError, match="Node 1 ended"), lead.training(arm):
            pass
        said = r"^This node was given method='evolution', not 'rl' as node 0; give every node"
        with pytest.raises(ConfigError, match=said):
            other.result(30)


def test_node_with_another_narrowing_is_refused_and_node_0_told(
    node: Node, shrunk: ShrinkConfig, fitted: Artefact, tmp_path: Path
) -> None:
    begun_shrink(replace(shrunk, step=0.02, workers=2), fitted, tmp_path)
    with lead_at(node, tmp_path) as lead, ThreadPoolExecutor() as pool:
        other = pool.submit(follow_shrink, shrunk, tmp_path, Told())
        with pytest.raises(PocketvisionError, match="Node 1 ended"), lead.training(tmp_path):
            pass
        said = r"^This node was given step=0\.01, not 0\.02 as node 0; give every node the same"
        with pytest.raises(ConfigError, match=said):
            other.result(30)


def test_nodes_are_refused_before_anything_where_the_environment_is_silent(
    searched: SearchConfig, shrunk: ShrinkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_RANK", raising=False)
    monkeypatch.delenv("SLURM_NODEID", raising=False)
    with pytest.raises(ConfigError, match="nodes=2, and the environment lacks NODE_RANK"):
        run_search(searched, tmp_path / "out")
    with pytest.raises(ConfigError, match="nodes=2, and the environment lacks NODE_RANK"):
        run_shrink(shrunk, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_search_on_two_nodes_comes_to_what_it_does_on_two_devices(tmp_path: Path) -> None:
    photos, space = write_photos(tmp_path / "photos", per_class=20), tmp_path / "tiny.toml"
    space.write_text(TINY_SPACE)
    words = (
        *("search", str(photos), "--space", str(space), "--latency", "50ms", "--epochs", "2"),
        *("--runtime", "onnxruntime", "--precision", "f32", "--batch-size", "16"),
        *("--supernet-steps", "4", "--evaluations", "4", "--baselines", "none"),
        *("--max-drop", "100"),
    )
    out, alone = tmp_path / "nodes", tmp_path / "devices"
    first, second = as_two_nodes(*words, "--out", str(out), "--device", "cpu")
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "Traceback" not in first[1] + second[1]
    assert "Training the supernet" in first[1]
    assert "Training the supernet" not in second[1]
    assert "Node 1 of 2 trains when node 0 does" in second[1]
    (one,) = ended(start(None, 0, *words, "--out", str(alone), *ALONE))
    assert one[0] == 0, one
    assert read_state(out).config.nodes == 2
    assert load(out).network.spec == load(alone).network.spec
    assert sha256_file(out / NETWORK) == sha256_file(alone / NETWORK)


@pytest.mark.slow
def test_narrowing_on_two_nodes_comes_to_what_it_does_on_two_devices(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    seed = fitted.classifier.spec
    target = write_table(tmp_path / "table.json", table_of([seed, narrowest(seed)]))
    latency_ms = 0.95 * TargetTable(table_of([seed]), target).timed_whole(seed).high_ms
    words = (
        *("shrink", str(fitted.folder), "--images", str(photos), "--latency", f"{latency_ms}ms"),
        *("--target", target, "--step", "0.05", "--brief-steps", "1", "--epochs", "2"),
        *("--max-drop", "100"),
    )
    out, alone = tmp_path / "nodes", tmp_path / "devices"
    first, second = as_two_nodes(*words, "--out", str(out), "--device", "cpu")
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "Traceback" not in first[1] + second[1]
    (one,) = ended(start(None, 0, *words, "--out", str(alone), *ALONE))
    assert one[0] == 0, one
    assert load(out).network.spec != seed
    assert sha256_file(out / NETWORK) == sha256_file(alone / NETWORK)
