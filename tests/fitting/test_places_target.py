"""Segmenters and detectors on a device that is not here: its table has them whole, and blocks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from brief_tables import brief_tables
from shapes import NAMES, write_boxes, write_masks
from small_runs import Told
from target_tables import DEVICE, table_of, timed, work_ms, write_table

from pocketvision.budget import Budget
from pocketvision.compress import netadapt
from pocketvision.compress.netadapt import narrowest
from pocketvision.errors import ConfigError
from pocketvision.fitting.candidates import as_candidate
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.device_profile import read_table, run_profile, write_bundle
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.profile_config import ProfileConfig, networks_of
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.target_plan import NotCovered, covered
from pocketvision.fitting.target_table import TargetTable
from pocketvision.measure import local_table
from pocketvision.measure.table import DeviceTable, TimedDense
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.nn.conv import BatchNormSpec, ConvSpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import TaskName

SIDE = 96
WRITERS = {"segment": write_masks, "detect": write_boxes}
# The masks of these pictures tell the ground as a class, and the boxes do not.
SEGMENT = ProfileConfig(
    task="segment",
    space=None,
    models=("mobilenetv3_small_050",),
    resolutions=(SIDE,),
    precision="int8",
    classes=len(NAMES),
)
PROFILES = {"segment": SEGMENT, "detect": replace(SEGMENT, task="detect", classes=len(NAMES) - 1)}
TASK_NAMES: tuple[TaskName, ...] = ("segment", "detect")
LATENCY = Latency(median_ms=3.0, p95_ms=3.3, low_ms=2.9, high_ms=3.1, runs=400, threads=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    brief_tables(monkeypatch, tmp_path / "cache", 3)


def table_with(*specs: DenseSpec) -> DeviceTable:
    timed = tuple(TimedDense(network=spec, latency=LATENCY) for spec in specs)
    return replace(table_of([], precision="int8"), dense=timed)


def network_of(task: TaskName, side: int = SIDE) -> DenseSpec:
    return networks_of(replace(PROFILES[task], resolutions=(side,))).dense[0]


@pytest.mark.parametrize("task", TASK_NAMES)
def test_profile_times_what_fit_plans_with_and_nothing_twice(
    task: TaskName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(PROFILES[task], precision="f32")
    table, check = run_profile(config, tmp_path / "one.json", told := Told())
    assert check is None
    assert read_table(tmp_path / "one.json") == table
    assert table.wholes == ()
    networks = networks_of(config)
    assert {timed.network for timed in table.carriers} == set(networks.carriers)
    assert [timed.network for timed in table.dense] == networks.dense
    count = len(networks.carriers)
    assert told.sentences[0].startswith(
        f"1 whole network and {count} blocks and heads of task {task} on mobilenetv3_small_050 on "
        f"onnxruntime f32, 1 thread, on {table.machine.cpu}; {count + 1} are new: about "
    )

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("timed again")

    monkeypatch.setattr(local_table, "measure_beside", refuse)
    assert run_profile(config, tmp_path / "two.json")[0] == table


def test_bundle_is_timed_by_its_script(tmp_path: Path) -> None:
    config = replace(PROFILES["detect"], precision="f32")
    folder = write_bundle(config, tmp_path / "bundle")
    script = (folder / "measure.py").read_text()
    brief = script.replace("ROUNDS = 20", "ROUNDS = 2").replace("SECONDS = 0.2", "SECONDS = 0.0")
    (folder / "measure.py").write_text(brief)
    command = [sys.executable, "-I", "measure.py"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    table = read_table(folder / "table.json")
    networks = networks_of(config)
    assert [timed.network for timed in table.dense] == networks.dense
    assert [timed.network for timed in table.carriers] == networks.carriers


@pytest.mark.parametrize("task", TASK_NAMES)
def test_blocks_of_a_few_forms_tell_of_all_between(
    task: TaskName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netadapt, "NARROWED", (0.5, 0.0))
    networks = networks_of(PROFILES[task])
    (spec,) = networks.dense
    table = replace(
        table_of([], precision="int8"),
        carriers=tuple(timed(carrier) for carrier in networks.carriers),
        dense=(TimedDense(network=spec, latency=timed(spec).latency),),
    )
    target = TargetTable(table, "table.json")
    between = narrowest(spec, share=0.7)
    forms = [spec, between, narrowest(spec, share=0.3), narrowest(spec)]
    found = [target.timed_whole(form) for form in forms]
    assert all(latency.is_by_table for latency in found)
    assert [latency.median_ms for latency in found] == pytest.approx(
        [work_ms(form) for form in forms], rel=0.02
    )
    assert found[0].low_ms == found[0].high_ms  # as it was timed there
    assert found[1].high_ms == pytest.approx(1.1 * found[1].median_ms)  # as far as sums are off
    told = Told()
    covered([as_candidate(between)], target, told)
    assert "1 of 1 candidates are in it, and its sums are off by about 10.0%" in told.sentences[0]
    other = between.with_classes(spec.num_classes + 1)
    with pytest.raises(ConfigError, match=rf"with {other.num_classes} outputs a place"):
        target.latency_ms(other)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_what_a_file_does_not_hold_makes_no_other_network(task: TaskName) -> None:
    """Weights of others bring other norms, and a classifier of other classes under the head."""
    spec = network_of(task)
    target = TargetTable(table_with(spec), "table.json")
    first, *blocks = spec.backbone.blocks
    assert isinstance(first, ConvSpec)
    other = replace(first, norm=BatchNormSpec(eps=0.001, momentum=0.01))
    body = replace(spec.backbone, blocks=(other, *blocks), name="theirs").with_classes(7)
    assert target.covers(replace(spec, backbone=body))
    assert not target.covers(replace(spec, backbone=body.at(SIDE + 32)))
    gated = replace(first, act="relu6")
    assert not target.covers(replace(spec, backbone=replace(body, blocks=(gated, *blocks))))


def test_noise_there_is_no_reason_to_refuse_a_file_here() -> None:
    spec = network_of("detect")
    noisy = TimedDense(network=spec, latency=replace(LATENCY, noise="the phone was warm"))
    target = TargetTable(replace(table_with(spec), dense=(noisy,)), "table.json")
    assert target.timed_whole(spec) == replace(LATENCY, runs=0)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_latency_is_what_the_network_took_there(task: TaskName) -> None:
    spec = network_of(task)
    target = TargetTable(table_with(spec), "table.json")
    found = target.timed_whole(spec)
    assert found == replace(LATENCY, runs=0)
    assert found.is_by_table
    other = spec.with_classes(spec.num_classes + 1)
    with pytest.raises(
        ConfigError, match=rf"does not hold .* with {other.num_classes} outputs a place"
    ):
        target.timed_whole(other)
    told = Told()
    candidates = [as_candidate(spec), as_candidate(other)]
    assert covered(candidates, target, told) == candidates[:1]
    assert told.sentences == [
        f"Latencies are by the table of onnxruntime int8, 1 thread, on {DEVICE}: 1 of 2 candidates "
        "are in it, each timed there untrained."
    ]


def test_no_network_of_another_task_is_in_the_table() -> None:
    segmenter, detector = network_of("segment"), network_of("detect")
    target = TargetTable(table_with(detector), "table.json")
    specs: tuple[AnySpec, ...] = (segmenter, segmenter.backbone)
    assert not any(target.covers(spec) for spec in specs)


@pytest.mark.parametrize(
    ("task", "command"),
    [
        (
            "segment",
            rf"--task segment --classes {len(NAMES)} --head lr_aspp --models mobilenet_v3_small",
        ),
        ("detect", rf"--task detect --classes {len(NAMES) - 1} --models mobilenet_v3_small"),
    ],
)
def test_absent_network_is_answered_with_the_command(task: TaskName, command: str) -> None:
    target = TargetTable(table_with(network_of(task, 128)), "table.json")
    with pytest.raises(
        NotCovered, match=rf"holds none of the 1 candidates, .*profile {command} --"
    ):
        covered([as_candidate(network_of(task))], target, Silent())


def test_no_time_is_refused() -> None:
    table = table_with(network_of("detect"))
    wrong = replace(table.dense[0], latency=replace(LATENCY, median_ms=0.0))
    with pytest.raises(ConfigError, match="holds latencies that are no times"):
        TargetTable(replace(table, dense=(wrong,)), "t.json")


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("segment", {"classes": None}, "task='segment' needs the number of classes that the imag"),
        ("detect", {"classes": 0}, "classes=0 is out of range; expected 1 to 10000"),
        ("detect", {"head": "r_aspp"}, "head='r_aspp' has no meaning with task='detect'"),
        ("segment", {"head": "fcn"}, "head='fcn' is unknown; expected one of .'lr_aspp', 'r_aspp'"),
        ("segment", {"space": "v3_small"}, "task='segment' has no search space: give networks"),
        ("segment", {"models": ()}, r"no search space: .*models=\[\], resolutions=\[96\]"),
        ("detect", {"resolutions": ()}, r"no search space: .*resolutions=\[\]\), such as"),
        ("detect", {"task": "classify"}, "classes=2 has no meaning with task='classify'"),
        ("detect", {"task": "sort"}, "task='sort' is unknown; expected one of .'classify', "),
    ],
)
def test_what_cannot_be_profiled_is_refused(
    task: TaskName, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(PROFILES[task], **change)


@pytest.mark.parametrize(
    "task", [pytest.param("segment", marks=pytest.mark.slow), pytest.param("detect")]
)
def test_fit_holds_the_budget_against_the_table(task: TaskName, tmp_path: Path) -> None:
    """The file that ships is the table's, whatever it takes here."""
    spec = network_of(task)
    config = FitConfig(
        data=str(WRITERS[task](tmp_path / "data")),
        task=task,
        budget=Budget(latency_ms=3.5),
        models=("mobilenetv3_small_050",),
        resolutions=(SIDE,),
        target=write_table(tmp_path / "table.json", table_with(spec)),
        epochs=2,
        batch_size=8,
    )
    record = run_fit(config, tmp_path / "out").record
    assert record.target is not None
    assert record.target.latency == replace(LATENCY, runs=0)
    assert record.latency.runs > 0  # measured here
    assert {one.latency.median_ms for one in record.tried} == {3.0}
    assert [(v.precision, v.within_budget) for v in record.variants] == [("int8", True)]
    assert "by the table of onnxruntime int8" in (tmp_path / "out" / "report.html").read_text()
