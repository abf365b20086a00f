"""Budgets held against the table of a device that is not here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mortal import Killed
from small_runs import QUICK, Told
from target_tables import DEVICE, small_networks, table_of, timed, work_ms, write_table

from pocketvision.budget import Budget
from pocketvision.errors import ArtefactError, BudgetError, ConfigError, MissingExtraError
from pocketvision.fitting import pipeline, plan, variants
from pocketvision.fitting.artefact import CARD, REPORT, Artefact
from pocketvision.fitting.candidates import list_candidates
from pocketvision.fitting.choice import Built, missed_sentence, undecided
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.consistency import contradictions
from pocketvision.fitting.pipeline import fit, run_fit
from pocketvision.fitting.ranking import planned_ms, rank
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.reproduce import _plan
from pocketvision.fitting.target_plan import covered, weigh_candidates
from pocketvision.fitting.target_table import (
    TargetTable,
    left_in_float,
    open_target,
    threads_asked,
)
from pocketvision.fitting.verify import verify
from pocketvision.measure import local_table
from pocketvision.measure.table import DeviceTable
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.record.files import Quantization, Variant
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.openvino import OpenVino

SPECS = small_networks()
CANDIDATES = list_candidates(["mobilenet_v1"], (), (32,), 2)
TABLE = table_of(SPECS)
DESCRIBED = f"onnxruntime f32, 1 thread, on {DEVICE}"


def checked(share: float = 1.0, odd: float = 1.0) -> DeviceTable:
    """With whole networks, one of which takes `odd` times what the others do."""
    wholes = [timed(SPECS[0], share * odd), *(timed(spec, share) for spec in SPECS[1:])]
    return replace(TABLE, wholes=tuple(wholes))


def test_latency_is_the_sum_scaled_by_the_tables_own_networks() -> None:
    target = TargetTable(checked(1.5), "table.json")
    spec = SPECS[1]
    assert target.latency_ms(spec) == pytest.approx(1.5 * work_ms(spec))
    target.meet(spec, timed(spec, 9.0).latency)  # as if it had been measured here
    assert target.latency_ms(spec) == pytest.approx(1.5 * work_ms(spec))


@pytest.mark.parametrize(
    ("table", "spread"),
    [(TABLE, 0.1), (checked(), 0.0), (replace(checked(), wholes=checked().wholes[:2]), 0.1)],
)
def test_interval_is_as_wide_as_the_table_is_off(table: DeviceTable, spread: float) -> None:
    target = TargetTable(table, "table.json")
    found = target.timed_whole(SPECS[0])
    ms = work_ms(SPECS[0])
    assert found.median_ms == pytest.approx(ms)
    assert (found.low_ms, found.high_ms) == pytest.approx(((1 - spread) * ms, (1 + spread) * ms))
    assert (found.runs, found.threads, found.is_by_table) == (0, 1, True)


def test_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("timed")

    monkeypatch.setattr(local_table, "measure_beside", refuse)
    target = TargetTable(TABLE, "table.json")
    target.ensure([SPECS[0].at(64)])
    assert not target.covers(SPECS[0].at(64))
    with pytest.raises(ConfigError, match=r"holds no conv of this form at 64 px; profile the dev"):
        target.timed_whole(SPECS[0].at(64))


def test_table_of_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target='t.json' \(.*\) holds no blocks; profile"):
        TargetTable(replace(TABLE, carriers=()), "t.json")
    wrong = replace(TABLE, carriers=(timed(SPECS[0], -1.0), *TABLE.carriers))
    with pytest.raises(ConfigError, match=r"holds latencies that are no times; profile the dev"):
        TargetTable(wrong, "t.json")
    with_head = [t for t in TABLE.carriers if t.network.head.num_classes == 2]
    slow = tuple(
        replace(t, latency=replace(t.latency, median_ms=99.0))
        if isinstance(t.network, ArchSpec) and len(t.network.blocks) == 1 and t in with_head
        else t
        for t in TABLE.carriers
    )
    with pytest.raises(ConfigError, match=r"gives -.* ms for mobilenet_v1 .*its figures are noise"):
        TargetTable(replace(TABLE, carriers=slow), "t.json").latency_ms(SPECS[0])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((("openvino",), (), 1), "--runtime openvino was asked for; ask for --runtime onnxruntime"),
        (((), ("int8",), 1), r"is of onnxruntime f32, 1 thread, on .*, and --precision int8 was"),
        (((), (), 4), "--threads 4 was asked for; .* or give a table of what you want"),
        ((("onnxruntime", "openvino"), ("f32",), 2), "--runtime openvino --threads 2 was asked"),
    ],
)
def test_what_contradicts_the_table_is_refused(asked: tuple[Any, Any, int], message: str) -> None:
    target = TargetTable(TABLE, "table.json")
    target.refuse_other(("onnxruntime",), ("f32",), 1)
    with pytest.raises(ConfigError, match=message):
        target.refuse_other(*asked)


def test_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert open_target(None) is None
    path = tmp_path / "table.json"
    with pytest.raises(ConfigError, match=r"target=.*table.json. cannot be read .No such file"):
        open_target(str(path))
    path.write_text("{}")
    with pytest.raises(ArtefactError, match=r"table.json is not a valid DeviceTable"):
        open_target(str(path))
    write_table(path, replace(TABLE, schema_version=9))
    with pytest.raises(ArtefactError, match="has schema version 9; this pocketvision reads up to"):
        open_target(str(path))


def test_table_that_cannot_be_judged_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.json"
    name = write_table(path, replace(TABLE, runtime="tflite"))
    with pytest.raises(ConfigError, match="'tflite' is no runtime of this pocketvision; expected"):
        open_target(name)
    write_table(path, replace(TABLE, precision="bf16"))
    with pytest.raises(ConfigError, match=r"this machine cannot run bf16 on onnxruntime to judge"):
        open_target(name)

    def absent(self: OpenVino) -> None:
        raise MissingExtraError("install it with: pip install 'pocketvision[openvino]'")

    monkeypatch.setattr(OpenVino, "check", absent)
    write_table(path, replace(TABLE, runtime="openvino"))
    message = r"openvino f32, 1 thread, .*, whose files cannot be made here. .*\[openvino\]'"
    with pytest.raises(MissingExtraError, match=message):
        open_target(name)


def test_threads_are_those_of_the_table_where_none_are_asked_for(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.json", replace(TABLE, threads=4))
    assert threads_asked(None, None) == 1
    assert threads_asked(None, path) == 4
    assert threads_asked(2, path) == 2


def test_target_without_a_latency_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target='t.json' is a table of latencies, and no late"):
        FitConfig(data="photos", target="t.json")


def test_candidates_are_those_in_the_table() -> None:
    target = TargetTable(TABLE, "table.json")
    others = list_candidates(["mobilenet_v2"], (1.0,), (32,), 2)
    assert covered([*others, *CANDIDATES], target, told := Told()) == CANDIDATES
    assert told.sentences == [
        f"Latencies are by the table of {DESCRIBED}, not measured there: 4 of 5 candidates are in "
        "it, and its sums are off by about 10.0%."
    ]
    message = (
        r"holds the blocks of none of the 1 candidates, such as mobilenet_v2.*pocketvision profile "
        r"--models mobilenet_v2 --resolution 32 --precision f32 --threads 1 --bundle FOLDER"
    )
    with pytest.raises(ConfigError, match=message):
        covered(others, target, Silent())


def test_plan_takes_latencies_from_the_table_and_sizes_from_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("timed")

    monkeypatch.setattr(plan, "measure_latency", refuse)
    target = TargetTable(TABLE, "table.json")
    limit_ms = target.timed_whole(SPECS[1]).high_ms  # met to the digit: it will not change
    budget = Budget(latency_ms=limit_ms)
    tried = weigh_candidates(CANDIDATES, target, budget, Silent())
    by_width = {one.width: one for one in tried}
    assert [width for width in sorted(by_width) if by_width[width].fits] == [0.25, 0.5]
    assert all(one.latency.is_by_table for one in tried)
    assert planned_ms(by_width[0.5].latency) == limit_ms
    assert by_width[0.25].size_bytes > 4 * by_width[0.25].parameters
    assert [c.spec.width for c in rank(CANDIDATES, tried, budget)] == [0.5, 0.25]
    small = Budget(latency_ms=1e-4)
    tried = weigh_candidates(CANDIDATES[:1], target, small, Silent())
    with pytest.raises(
        BudgetError, match=rf"meets 0.0001 ms by the table of {DESCRIBED} \(1 files tried\)"
    ):
        rank(CANDIDATES, tried, small, f"by the table of {DESCRIBED}")


def test_plan_ends_with_the_time() -> None:
    target, told = TargetTable(TABLE, "table.json"), Told()
    assert len(weigh_candidates(CANDIDATES, target, Budget(latency_ms=9.0), told, 0.0)) == 1
    assert "Weighed 1 of 4 candidates in the time there is." in told.sentences


def built(target_ms: float, *, drop: float = 0.0, noise: str = "") -> Built:
    """A file that takes 5 ms here, and `target_ms` by the table."""
    here = Latency(
        median_ms=5.0, p95_ms=9.0, low_ms=1.0, high_ms=9.0, runs=9, threads=1, noise="wide"
    )
    there = replace(here, median_ms=target_ms, high_ms=target_ms, runs=0, noise=noise)
    comparison: Any = SimpleNamespace(drop=drop)
    variant = Variant(
        runtime="onnxruntime",
        precision="int8",
        size_bytes=1000,
        latency=here,
        comparison=comparison,
        within_budget=False,
        passed_gate=not drop,
        target=there,
    )
    return Built(variant=variant, path=Path("x"))


def test_why_nothing_ships_is_by_the_table() -> None:
    budget = Budget(latency_ms=2.0)
    slow = missed_sentence("small", [built(3.0)], budget, 1.0, DESCRIBED)
    assert "int8 on onnxruntime takes up to 3 ms and 1 kB." in slow
    lossy = missed_sentence("small", [built(1.0, drop=0.03)], budget, 1.0, DESCRIBED)
    assert "loses 3.00 points (limit 1)" in lossy
    assert f"by the table of {DESCRIBED}, which tells of no other files: allow more" in lossy
    mixed = built(1.0, noise="leaves 2 layers in float, of which the table knows nothing")
    sentence = missed_sentence("small", [mixed], budget, 1.0, DESCRIBED)
    assert "int8 on onnxruntime leaves 2 layers in float, of which the table knows" in sentence


def test_noise_of_this_machine_decides_nothing() -> None:
    passing = built(3.0)
    assert undecided([passing], Budget(latency_ms=3.5)) is None
    here = replace(passing.variant, target=None)
    assert undecided([replace(passing, variant=here)], Budget(latency_ms=3.5)) is not None


@pytest.mark.parametrize(
    ("passed", "layers", "said"),
    [
        (True, ("a",), "leaves 1 layer in float, of which the table knows nothing"),
        (True, ("a", "b"), "leaves 2 layers in float, of which the table knows nothing"),
        (True, (), ""),
        (False, ("a",), ""),  # then the file is that of the first rung
    ],
)
def test_int8_with_layers_in_float_is_not_vouched_for(
    passed: bool, layers: tuple[str, ...], said: str
) -> None:
    rungs = [SimpleNamespace(passed=passed, float_layers=layers)]
    quantization: Any = SimpleNamespace(rungs=rungs)
    run: Any = SimpleNamespace(
        target=TargetTable(TABLE, "table.json"), state=SimpleNamespace(quantization=quantization)
    )
    network: Any = SimpleNamespace(spec=SPECS[0])

    def noise(precision: Precision) -> str:
        file: Any = SimpleNamespace(precision=precision)
        latency = variants._on_target(run, network, file)
        assert latency is not None
        return latency.noise

    assert noise("int8") == said
    assert noise("f32") == ""
    run.target = None
    assert variants._on_target(run, network, run) is None


def test_no_quantization_leaves_nothing_in_float() -> None:
    nothing: Quantization | None = None
    assert left_in_float(nothing) == 0


LIMIT_MS = 2.0


@pytest.fixture(scope="module")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("target") / "table.json"
    write_table(path, table_of(SPECS, precision="int8"))
    return path


@pytest.fixture(scope="module")
def config(photos: Path, table_file: Path) -> FitConfig:
    return replace(
        QUICK,
        data=str(photos),
        budget=Budget(latency_ms=LIMIT_MS),
        runtimes=(),
        target=str(table_file),
        epochs=5,
    )


def die(*arguments: Any, **named: Any) -> None:
    raise Killed


@pytest.fixture(scope="module")
def for_target(
    config: FitConfig, table_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Artefact:
    """A whole fit, killed once, whose table was another one meanwhile."""
    out = tmp_path_factory.mktemp("for_target") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run_training", die)
        with pytest.raises(Killed):
            run_fit(config, out)
    kept = table_file.read_bytes()
    write_table(table_file, table_of(SPECS[:2], precision="int8"))
    with pytest.raises(ConfigError, match=r"table.json has changed since it began; put the table"):
        run_fit(config, out)
    table_file.write_bytes(kept)
    return run_fit(config, out)


def test_fit_for_a_target_ships_what_its_table_is_of(for_target: Artefact) -> None:
    record = for_target.record
    assert [(v.runtime, v.precision) for v in record.variants] == [("onnxruntime", "int8")]
    assert record.target is not None
    assert record.target.table == f"onnxruntime int8, 1 thread, on {DEVICE}"
    assert record.target.latency.median_ms == pytest.approx(work_ms(for_target.classifier.spec))
    assert record.target.latency.runs == 0
    assert record.latency.runs > 0  # measured here
    assert record.budgeted == record.variants[0].budgeted == record.target.latency
    assert record.verdict.met
    assert all(one.latency.is_by_table for one in record.tried)
    assert contradictions(for_target, for_target.state) == []


def test_what_was_not_measured_is_said(for_target: Artefact) -> None:
    record = for_target.record
    assert f"by the table of onnxruntime int8, 1 thread, on {DEVICE}, not measured there" in (
        record.verdict.sentence
    )
    assert "measured on this machine)" in record.verdict.sentence
    page = (for_target.folder / REPORT).read_text()
    assert "Latency on the target" in page
    assert "by the table of another device" in page
    assert "exported untrained and measured on this machine" not in page
    assert "left is faster on the target by its table" in page
    card = (for_target.folder / CARD).read_text()
    assert "| Latency on the target |" in card
    assert "not measured there: the table of onnxruntime int8" in card
    assert "| Latency on the machine below |" in card


def test_verify_compares_this_machine_with_itself(
    for_target: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {"shipped": for_target.record.latency}  # measuring it cannot be relied on
    monkeypatch.setattr("pocketvision.fitting.verify.measure_latency", lambda *_: again)
    found = verify(for_target.folder)
    assert found.passed
    line = next(check for check in found.checks if check.name == "target")
    assert line.found == "not checked"
    assert f"on {DEVICE}, not measured there: run the file on that device" in line.note
    assert next(c for c in found.checks if c.name == "latency").passed


def test_latency_on_the_target_cannot_be_edited(for_target: Artefact) -> None:
    record = for_target.record
    assert record.target is not None
    faster = replace(record.target, latency=replace(record.target.latency, median_ms=0.1))
    edited: Any = SimpleNamespace(
        record=replace(record, target=faster),
        network=for_target.network,
        classes=for_target.classes,
    )
    found = contradictions(edited, for_target.state)
    assert "latency on the target of the shipped file: given twice, differently" in found
    assert "the latency lies outside its own interval" in found


def test_replay_needs_no_table(for_target: Artefact) -> None:
    plan_again = _plan(for_target, for_target.state.config, "")
    assert (plan_again.config.target, plan_again.tried) == (None, ())


def test_python_face_takes_the_threads_of_the_table(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FitConfig] = []

    def take(found: FitConfig, *rest: Any, **named: Any) -> None:
        asked.append(found)

    monkeypatch.setattr(pipeline, "run_fit", take)
    path = tmp_path / "table.json"
    write_table(path, replace(TABLE, threads=4))
    fit(config.data, tmp_path / "out", latency="2ms", target=path)
    assert (asked[0].threads, asked[0].target) == (4, str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precisions": ("f32",)}, "is of onnxruntime int8, .* and --precision f32 was asked for"),
        ({"threads": 2}, "and --threads 2 was asked for"),
        ({"resolutions": (48,)}, "holds the blocks of none of the 1 candidates, such as mobile"),
    ],
)
def test_fit_refuses_before_there_is_a_folder(
    config: FitConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_fit(replace(config, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_planned_networks_are_the_registrys() -> None:
    """What these tests rest on."""
    assert tuple(spec.width for spec in SPECS) == registry.widths("mobilenet_v1")
