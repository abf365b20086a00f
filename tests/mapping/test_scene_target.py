"""A budget for a device that is not here: tables of networks for a scene, and runs against one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto
from small_scenes import BANDS, CLASSES, QUICK, WHOLE, WINDOW, Told
from target_tables import DEVICE, small_networks, table_of, write_table

from pocketvision.budget import Budget
from pocketvision.compress import netadapt
from pocketvision.compress.netadapt import forms_between, narrowest
from pocketvision.errors import BudgetError, ConfigError, GateError
from pocketvision.fitting.device_profile import read_table
from pocketvision.fitting.target_table import open_target
from pocketvision.mapping import files, finish, methods
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.layer_table import layer_model
from pocketvision.mapping.networks import network_spec
from pocketvision.mapping.pipeline import fit_scene, run_scene_fit
from pocketvision.mapping.scene_profile import run_scene_profile, write_scene_bundle
from pocketvision.mapping.scene_target import SceneTarget, open_scene_target
from pocketvision.mapping.verify import verify_scene
from pocketvision.measure.device import machine
from pocketvision.measure.table import DeviceTable, TimedLayer, TimedScene
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.patch_layers import layer_forms
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.storage import to_json

THERE = {"hybridsn": 90.0, "mobile_patch": 5.0}


@pytest.fixture(autouse=True)
def few_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of narrower ones, none: every layer is a file that is timed."""
    monkeypatch.setattr(netadapt, "NARROWED", ())


def table(config: SceneConfig = WHOLE, precision: Precision = "f32") -> DeviceTable:
    """Of a slow device, where the networks for the small scene take so many milliseconds."""

    def timed(name: str) -> TimedScene:
        ms = THERE[name]
        latency = Latency(
            median_ms=ms, p95_ms=2 * ms, low_ms=0.9 * ms, high_ms=1.1 * ms, runs=9, threads=1
        )
        spec = network_spec(config, name, BANDS, CLASSES)
        return TimedScene(network=spec, bands=BANDS, latency=latency)

    return DeviceTable(
        machine=replace(machine(), cpu=DEVICE),
        runtime="onnxruntime",
        precision=precision,
        threads=1,
        carriers=(),
        scenes=tuple(timed(name) for name in config.networks),
    )


def asking(scene: Path, target: str, *, base: SceneConfig = QUICK, ms: float = 10.0) -> SceneConfig:
    return replace(base, data=str(scene), target=target, budget=Budget(latency_ms=ms))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The table of QUICK."""
    return write_table(tmp_path / "table.json", table(QUICK))


@pytest.fixture(scope="module")
def on_target(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> SceneArtefact:
    folder = tmp_path_factory.mktemp("on_target")
    return run_scene_fit(
        asking(scene, write_table(folder / "table.json", table(QUICK))), folder / "out"
    )


def test_budget_is_held_against_the_table_and_said_to_be(on_target: SceneArtefact) -> None:
    record = on_target.record
    assert record.target is not None
    assert (record.target.latency.median_ms, record.target.latency.is_by_table) == (5.0, True)
    assert record.target.table == f"onnxruntime f32, 1 thread, on {DEVICE}"
    assert record.verdict.met
    assert (
        f"takes 5 ms by the table of onnxruntime f32, 1 thread, on {DEVICE}, not measured there ("
    ) in record.verdict.sentence
    found = {file.form: file for file in record.files}
    assert {file.precision for file in record.files} == {"f32"}
    assert found["dense"].budgeted.median_ms == 5.0
    assert found["dense"].pixel_latency.runs > 0
    assert found["patch"].target is None
    page = (on_target.folder / "report.html").read_text()
    assert "Latency on the target" in page
    assert "It was not measured: it is by the table of" in page
    assert "Latency of one pixel on the target" in (on_target.folder / "README.md").read_text()


def test_verify_says_that_the_target_is_not_checked(on_target: SceneArtefact) -> None:
    rows = {check.name: check for check in verify_scene(on_target.folder).checks}
    assert rows["target"].passed is None
    assert rows["latency"].recorded != rows["target"].recorded


def test_pages_without_a_target_do_not_speak_of_one(fitted: SceneArtefact) -> None:
    assert fitted.record.target is None
    assert "on the target" not in (fitted.folder / "report.html").read_text()
    assert "on the target" not in (fitted.folder / "README.md").read_text()


def test_network_that_is_too_slow_there_is_not_chosen(scene: Path, tmp_path: Path) -> None:
    """On this machine both would do."""
    path = write_table(tmp_path / "table.json", table())
    config = asking(scene, path, base=replace(WHOLE, steps=2, methods=("hybridsn", "mobile_patch")))
    told = Told(interrupt="Training mobile_patch")
    with pytest.raises(KeyboardInterrupt):
        run_scene_fit(config, tmp_path / "out", told)
    said = f"Latencies are by the table of onnxruntime f32, 1 thread, on {DEVICE}, each timed there"
    assert any(sentence.startswith(said) for sentence in told.sentences)
    assert any(sentence.startswith("Training mobile_patch") for sentence in told.sentences)


def test_latency_that_no_network_has_there_names_the_nearest(
    scene: Path, path: str, tmp_path: Path
) -> None:
    message = rf"nearest is mobile_patch .* by the table of onnxruntime f32, 1 thread, on {DEVICE}"
    with pytest.raises(BudgetError, match=message):
        run_scene_fit(asking(scene, path, ms=1.0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_file_that_is_too_slow_there_is_told_so_and_nobody_waits(
    on_target: SceneArtefact, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = next(file for file in on_target.record.files if file.form == "dense")
    built = files.Built(
        figures=replace(dense, within_budget=False),
        path=on_target.model_file,
        card=on_target.session().card,
    )
    monkeypatch.setattr(finish, "build_files", lambda *_: [built])
    monkeypatch.setattr(finish, "timed_again", lambda *_: pytest.fail("timed again"))
    path = write_table(tmp_path / "table.json", table(QUICK))
    with pytest.raises(GateError, match=r"f32 takes by the table 5\.5 ms a pixel and "):
        run_scene_fit(replace(asking(scene, path), steps=2), tmp_path / "out")


def test_unfinished_run_keeps_its_table(
    scene: Path, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "out", asking(scene, path)
    with pytest.raises(KeyboardInterrupt):
        run_scene_fit(config, out, Told(interrupt="Training mobile_patch"))
    begun = Path(path).read_text()
    Path(path).write_text(begun.replace(DEVICE, "Cortex-A55"))
    with pytest.raises(ConfigError, match="has changed since it began; put the table back"):
        run_scene_fit(config, out)
    Path(path).write_text(begun)
    monkeypatch.setattr(methods, "train_scene", lambda *_, **__: pytest.fail("it goes on"))
    with pytest.raises(pytest.fail.Exception, match="it goes on"):
        run_scene_fit(config, out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": WINDOW + 2}, r"does not hold mobile_patch 11x11x6 for 20 bands and 4 classes"),
        ({"components": 8}, r"same --window, --components and --attention: pocketvision profile "),
        ({"attention": "se"}, r"does not hold mobile_patch"),
        ({"precisions": ("int8",)}, r"is of onnxruntime f32, .* and --precision int8 was asked f"),
        ({"threads": 2}, r"--threads 2 was asked for"),
    ],
)
def test_network_that_the_table_lacks_is_refused(
    scene: Path, path: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = replace(asking(scene, path), **changes)
    with pytest.raises(ConfigError, match=message):
        run_scene_fit(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_of_photos_and_of_scenes_are_told_apart(path: str, tmp_path: Path) -> None:
    photos = write_table(tmp_path / "photos.json", table_of(small_networks()))
    with pytest.raises(ConfigError, match=r"holds no networks for scenes; make a table of those f"):
        open_scene_target(photos)
    with pytest.raises(ConfigError, match=r"holds networks for scenes alone; profile the device a"):
        open_target(path)
    never = table(QUICK)
    never = replace(
        never,
        scenes=(replace(never.scenes[0], latency=replace(never.scenes[0].latency, median_ms=0.0)),),
    )
    with pytest.raises(ConfigError, match="holds latencies that are no times"):
        SceneTarget(never, "table.json")
    assert open_scene_target(None) is None


def test_python_face_takes_a_target(scene: Path, path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not hold hybridsn 25x25x"):
        fit_scene(scene, tmp_path / "out", latency="5ms", target=path, methods=("hybridsn",))


# ---- profiles


def test_profile_of_this_machine_is_a_target(scene: Path, tmp_path: Path) -> None:
    config = replace(WHOLE, data=str(scene), precisions=("int8",))
    found = run_scene_profile(config, tmp_path / "new" / "table.json", told := Told())
    assert read_table(tmp_path / "new" / "table.json") == found
    assert [timed.network.name for timed in found.scenes] == ["hybridsn", "mobile_patch"]
    assert all(timed.latency.runs > 0 for timed in found.scenes)
    assert told.sentences[1].startswith("Timing 2 networks for the 20 bands and 4 classes of ")
    target = open_scene_target(str(tmp_path / "new" / "table.json"))
    assert target is not None
    settled = target.settled(replace(WHOLE, data=str(scene)))
    assert settled.precisions == ("int8",)
    for timed in found.scenes:
        assert target.latency_of(timed.network, BANDS).median_ms == timed.latency.median_ms


def test_bundle_is_timed_with_python_and_onnxruntime_alone(scene: Path, tmp_path: Path) -> None:
    config = replace(QUICK, data=str(scene), precisions=("f32",))
    folder = write_scene_bundle(config, tmp_path / "bundle")
    layers = list(dict.fromkeys(layer_forms(network_spec(QUICK, "mobile_patch", BANDS, CLASSES))))
    files = [f"{number:04d}.onnx" for number in range(1 + len(layers))]
    assert {file.name for file in folder.iterdir()} == {*files, "bundle.json", "measure.py"}
    script = (folder / "measure.py").read_text().replace("SECONDS = 0.2", "SECONDS = 0.02")
    (folder / "measure.py").write_text(script)
    command = [sys.executable, "-I", str(folder / "measure.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(files)} files to time" in done.stdout
    found = read_table(folder / "table.json")
    (timed,) = found.scenes
    assert (timed.network, timed.bands) == (network_spec(QUICK, "mobile_patch", 20, 4), BANDS)
    assert timed.latency.runs > 0
    assert [one.form for one in found.layers] == layers
    target = SceneTarget(found, "table.json")
    assert target.latency_of(timed.network, BANDS).median_ms == timed.latency.median_ms


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_every_layer_of_a_bundle_takes_what_the_script_gives(precision: Precision) -> None:
    for form in layer_forms(network_spec(WHOLE, "hybridsn", BANDS, CLASSES)):
        model = layer_model(form, integers=precision == "int8")
        kind = model.graph.input[0].type.tensor_type.elem_type
        assert kind == (TensorProto.UINT8 if precision == "int8" else TensorProto.FLOAT)


def test_narrower_forms_are_told_by_their_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netadapt, "NARROWED", (0.5, 0.0))
    whole = table()
    forms = dict.fromkeys(
        layer
        for timed in whole.scenes
        for form in forms_between(timed.network)
        for layer in layer_forms(form)
    )
    layers = tuple(
        TimedLayer(form=form, latency=replace(whole.scenes[0].latency, median_ms=1e-6 * form.macs))
        for form in forms
    )
    target = SceneTarget(replace(whole, layers=layers), "table.json")
    spec = network_spec(WHOLE, "hybridsn", BANDS, CLASSES)
    assert target.latency_of(spec, BANDS).median_ms == THERE["hybridsn"]
    scale = target.latency_ms(spec) / sum(form.macs for form in layer_forms(spec))
    narrow = narrowest(spec, share=0.7)
    found = target.latency_of(narrow, BANDS)
    work = sum(form.macs for form in layer_forms(narrow))
    assert found.median_ms == pytest.approx(scale * work, rel=0.01)
    assert found.is_by_table
    assert found.high_ms == pytest.approx(1.1 * found.median_ms)
    with pytest.raises(ConfigError, match=r"does not hold hybridsn .* for 21 bands"):
        target.latency_of(narrow, BANDS + 1)
    with pytest.raises(ConfigError, match="whole alone, and narrowing needs their layers; make th"):
        SceneTarget(whole, "table.json").latency_ms(narrow)
    other = hybridsn(bands=13, window=11, num_classes=CLASSES)
    with pytest.raises(ConfigError, match=r"holds no layer like .*; profile the device again"):
        target.latency_ms(other)


def test_few_bands_leave_a_network_out(scene: Path, tmp_path: Path) -> None:
    config = replace(QUICK, data=str(scene), methods=(), precisions=("f32",))
    run_scene_profile(config, tmp_path / "table.json", told := Told())
    assert any("HybridSN needs" in sentence for sentence in told.sentences)


@pytest.mark.parametrize("write", [run_scene_profile, write_scene_bundle])
def test_profile_refuses_two_precisions_and_a_place_that_is_taken(
    scene: Path, tmp_path: Path, write: Callable[[SceneConfig, Path], object]
) -> None:
    config = replace(QUICK, data=str(scene))
    with pytest.raises(ConfigError, match=r"precisions=\['f32', 'int8'\]: a table is of one preci"):
        write(config, tmp_path / "out")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="out exists already; give another --out, or remove it"):
        write(replace(config, precisions=("f32",)), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_table_of_before_is_still_read(tmp_path: Path) -> None:
    """Those had no networks for scenes."""
    old = json.loads(to_json(replace(table_of(small_networks()), schema_version=2)))
    del old["scenes"], old["layers"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert read_table(tmp_path / "old.json").scenes == ()
