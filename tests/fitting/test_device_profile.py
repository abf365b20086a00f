"""Tables of this machine and of another, which only has Python, numpy and onnxruntime."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from brief_tables import brief_tables
from small_runs import Told
from target_tables import table_of, timed

from pocketvision.errors import ArtefactError, ConfigError, StorageError
from pocketvision.fitting import profile_config
from pocketvision.fitting.candidates import list_candidates
from pocketvision.fitting.device_profile import read_table, run_profile, write_bundle
from pocketvision.fitting.profile_config import ProfileConfig, networks_of
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.target_plan import covered
from pocketvision.fitting.target_table import TargetTable, open_target
from pocketvision.measure import local_table
from pocketvision.measure.latency import measure_beside
from pocketvision.measure.table import LatencyTable, check_table
from pocketvision.models.spaces import find_space
from pocketvision.runtimes.registry import get_runtime
from pocketvision.storage import to_json, write_atomic

SPACE = """
name = "tiny"
last = 32
hidden = 16
resolutions = [32, 48]

[[stages]]
c_out = 16
stride = 2
depths = [1]
kernels = [3]
expansions = [1.0, 3.0]
acts = ["relu"]

[[stages]]
c_out = 24
stride = 2
depths = [1, 2]
kernels = [3, 5]
expansions = [3.0]
attention = [false]
"""

Write = Callable[[ProfileConfig, Path], object]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    brief_tables(monkeypatch, tmp_path / "cache", 4)


@pytest.fixture
def config(tmp_path: Path) -> ProfileConfig:
    (tmp_path / "tiny.toml").write_text(SPACE)
    return ProfileConfig(space=str(tmp_path / "tiny.toml"), precision="f32")


def test_table_covers_every_member_of_the_space(config: ProfileConfig, tmp_path: Path) -> None:
    table, check = run_profile(config, tmp_path / "out.json")
    assert read_table(tmp_path / "out.json") == table
    assert check is not None
    assert check.n == 4
    sums = LatencyTable(table)
    space = config.searched
    assert space is not None
    for member in space.covering():  # any figure will do: two rounds are noise
        assert math.isfinite(sums.latency_ms(space.spec(member, 17)))


def test_folder_of_the_table_is_made(config: ProfileConfig, tmp_path: Path) -> None:
    table, _ = run_profile(config, tmp_path / "new" / "folder" / "out.json")
    assert read_table(tmp_path / "new" / "folder" / "out.json") == table


@pytest.mark.parametrize("write", [run_profile, write_bundle])
def test_full_disk_is_a_sentence(
    config: ProfileConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match=r"The disk of .*out is full; make room and run the"):
        write(config, tmp_path / "new" / "out")


def test_networks_that_check_a_table_differ(
    config: ProfileConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small space draws some members twice, and one alone has nothing to be compared with."""
    monkeypatch.setattr(profile_config, "WHOLES", 1000)
    space = config.searched
    assert space is not None
    wholes = networks_of(config).wholes
    assert len(set(wholes)) == len(wholes) == space.members


def test_nothing_is_timed_twice_on_one_machine(
    config: ProfileConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run_profile(config, tmp_path / "one.json")

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("timed again")

    monkeypatch.setattr(local_table, "measure_beside", refuse)
    assert run_profile(config, tmp_path / "two.json")[0] == first


def test_two_runs_at_once_keep_what_both_timed(config: ProfileConfig) -> None:
    """The later to write had read the table before the other added to it."""
    networks, runtime = networks_of(config), get_runtime("onnxruntime")
    first, second = (local_table.LocalTable(runtime, "f32", 1) for _ in range(2))
    carriers = networks.carriers
    first.ensure_carriers(carriers[:2])
    second.ensure_carriers(carriers[1:3])
    first.check(networks.wholes[:1])
    second.check(networks.wholes[1:2])
    kept = local_table.LocalTable(runtime, "f32", 1).sums.table
    assert {timed.network for timed in kept.carriers} >= set(carriers[:3])
    assert [timed.network for timed in kept.wholes].count(networks.wholes[0]) == 1
    assert {timed.network for timed in kept.wholes} == set(networks.wholes[:2])
    assert len({timed.network for timed in kept.carriers}) == len(kept.carriers)


def test_all_that_is_timed_here_is_beside_one_anchor(config: ProfileConfig, tmp_path: Path) -> None:
    table, _ = run_profile(config, tmp_path / "out.json")
    assert table.anchor_ms is not None
    assert table.anchor_ms > 0
    runtime, carriers = get_runtime("onnxruntime"), networks_of(config).carriers
    kept = local_table.LocalTable(runtime, "f32", 1)
    other = replace(config, models=("mobilenet_v1",))
    assert run_profile(other, tmp_path / "more.json")[0].anchor_ms == table.anchor_ms
    assert kept.unknown(carriers) == []
    # Figures from before there were anchors cannot stand beside those with one.
    write_atomic(kept.path, to_json(replace(kept.sums.table, anchor_ms=None)))
    assert len(local_table.LocalTable(runtime, "f32", 1).unknown(carriers)) == len(carriers)


def test_tables_of_earlier_versions_are_read(config: ProfileConfig, tmp_path: Path) -> None:
    table, _ = run_profile(config, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["schema_version"] == 4
    for later in ("dense", "anchor_ms", "scenes", "layers"):
        del content[later]
    (tmp_path / "old.json").write_text(json.dumps(content | {"schema_version": 1}))
    read = read_table(tmp_path / "old.json")
    assert read == replace(table, schema_version=1, anchor_ms=None)
    assert TargetTable(read, "old.json").covers(table.wholes[0].network)


def test_interruption_keeps_what_was_timed(
    config: ProfileConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_table, "CHUNK", 5)
    real, calls = measure_beside, [0]

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(local_table, "measure_beside", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_profile(config, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    runtime = get_runtime("onnxruntime")
    kept = local_table.LocalTable(runtime, "f32", 1)
    assert len(kept.unknown(networks_of(config).carriers)) == len(networks_of(config).carriers) - 10


def test_bundle_is_timed_by_its_script_alone(config: ProfileConfig, tmp_path: Path) -> None:
    folder = write_bundle(replace(config, precision="int8"), tmp_path / "bundle")
    script = (folder / "measure.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", script, re.MULTILINE)) - {"__future__"}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
    quick = script.replace("ROUNDS = 20", "ROUNDS = 2").replace("SECONDS = 0.2", "SECONDS = 0.0")
    (folder / "measure.py").write_text(quick)
    command = [sys.executable, "-I", "measure.py"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    table = read_table(folder / "table.json")
    assert (table.runtime, table.precision, table.threads) == ("onnxruntime", "int8", 1)
    assert {t.network for t in table.carriers} == set(networks_of(config).carriers)
    assert check_table(table).n == 4
    # An interrupted run goes on: what is in timed.json is not timed again.
    known = json.loads((folder / "timed.json").read_text())
    dropped = known.popitem()[0]
    (folder / "timed.json").write_text(json.dumps(known))
    (folder / "table.json").unlink()
    told = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert told.startswith("1 files to time")
    again = json.loads((folder / "timed.json").read_text())
    assert again["anchor_ms"] == known["anchor_ms"] == table.anchor_ms
    assert {name: again[name] for name in known} == known
    assert dropped in again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "v9"}, "space='v9' is not known"),
        ({"resolutions": (16,)}, "resolution=16 is out of range; expected 32 to 1024"),
        ({"precision": "bf16"}, "precision='bf16' is not offered by onnxruntime; expected one of"),
        ({"threads": 0}, "threads=0 is out of range"),
        ({"models": ("mobilenet_v9",)}, "'mobilenet_v9' is unknown; .* Did you mean 'mobilenet"),
        ({"space": None}, "without a space, give the networks and their resolutions, such as"),
        ({"space": None, "models": ("resnet18",)}, "without a space, give the networks and their"),
        (
            {"space": None, "models": ("resnet18",), "resolutions": (8,)},
            "resolution=8 is out of range; expected 32 to 1024",
        ),
    ],
)
def test_what_cannot_be_profiled_is_refused(
    config: ProfileConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **change)


def test_files_that_are_there_are_left_alone(config: ProfileConfig, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for write in (run_profile, write_bundle):
        with pytest.raises(ConfigError, match="out exists already; give another --out"):
            write(config, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_only_onnx_runtime_is_bundled(config: ProfileConfig, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(ConfigError, match="runtime='openvino' cannot be bundled"):
        write_bundle(replace(config, runtime="openvino"), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "table.json is not a valid DeviceTable"),
        ("no json", "table.json is not a valid DeviceTable"),
    ],
)
def test_file_that_is_no_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ArtefactError, match=message):
        read_table(tmp_path / "table.json")


def test_absent_and_later_tables_are_refused(config: ProfileConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file .*; give the table that"):
        read_table(tmp_path / "table.json")
    run_profile(config, tmp_path / "table.json")
    text = (tmp_path / "table.json").read_text()
    (tmp_path / "table.json").write_text(text.replace('"schema_version":4', '"schema_version":9'))
    with pytest.raises(ArtefactError, match="has schema version 9; this pocketvision reads"):
        read_table(tmp_path / "table.json")


def test_default_is_the_smallest_resolution() -> None:
    config = ProfileConfig(space="v3_small")
    assert config.searched is not None
    assert config.searched.resolutions == (min(find_space("v3_small").resolutions),)


NAMED = ProfileConfig(space=None, models=("mobilenet_v1",), resolutions=(32,), precision="f32")


def test_table_of_networks_covers_what_fit_plans_with() -> None:
    networks = networks_of(NAMED)
    table = replace(table_of([]), carriers=tuple(map(timed, networks.carriers)))
    target = TargetTable(table, "table.json")
    candidates = list_candidates(["mobilenet_v1"], (), (32,), 7)
    assert covered(candidates, target, Silent()) == candidates
    assert len(set(networks.wholes)) == len(networks.wholes) == 4


def test_one_network_alone_can_be_checked() -> None:
    networks = networks_of(replace(NAMED, models=("mobilenetv3_small_075",)))
    assert len(set(networks.wholes)) == 3


def test_networks_join_a_space_at_its_resolution(config: ProfileConfig) -> None:
    both = replace(config, models=("mobilenet_v1",))
    assert both.described == f"{config.space} and mobilenet_v1"
    assert networks_of(both).carriers == list(
        dict.fromkeys([*networks_of(config).carriers, *networks_of(NAMED).carriers])
    )
    assert len(networks_of(both).wholes) == 8


def test_networks_are_timed_without_a_space(tmp_path: Path) -> None:
    table, check = run_profile(NAMED, tmp_path / "out.json", told := Told())
    assert check is not None
    assert (check.n, len(table.carriers)) == (4, len(networks_of(NAMED).carriers))
    assert " blocks of mobilenet_v1 and 4 whole networks on" in told.sentences[0]
    assert open_target(str(tmp_path / "out.json")) is not None
