"""`quantize` from end to end: fitted folders, weights and files; with labels and without."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import Told

from pocketvision.errors import ArtefactError, ConfigError, DataError, StorageError
from pocketvision.fitting import quantize as quantize_module
from pocketvision.fitting import quantize_files as module
from pocketvision.fitting import quantize_forecast
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.lock import locked
from pocketvision.fitting.quantize import QUANTIZATION, QuantizeConfig, quantize, run_quantize
from pocketvision.fitting.quantize_files import measured_files
from pocketvision.fitting.quantize_forecast import forecast_s
from pocketvision.fitting.quantize_images import read_images
from pocketvision.fitting.quantize_source import open_source
from pocketvision.fitting.reporter import Silent
from pocketvision.measure.latency import LatencyProtocol
from pocketvision.record.run import QuantizationRecord
from pocketvision.runtimes.registry import RUNTIMES
from pocketvision.storage import from_json, sha256_file

BRIEF = LatencyProtocol(rounds=2, min_runs=2, seconds=0.01)


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINAL", BRIEF)


def asked(source: Path | str, images: Path, **changes: object) -> QuantizeConfig:
    config = QuantizeConfig(
        source=str(source),
        images=str(images),
        runtimes=("onnxruntime",),
        max_drop_points=100,
        explain=False,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loose(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos without class folders."""
    folder = tmp_path_factory.mktemp("loose")
    for number, path in enumerate(sorted(photos.glob("*/*.png"))):
        (folder / f"{number:03}.png").write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def quantized(
    fitted: Artefact, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, QuantizationRecord]:
    out = tmp_path_factory.mktemp("quantized") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FINAL", BRIEF)
        config = replace(asked(fitted.folder, photos), explain=True)
        return out, run_quantize(config, out, command="pocketvision quantize ...")


def test_fitted_folder_becomes_a_folder_with_the_shipped_file(
    quantized: tuple[Path, QuantizationRecord],
) -> None:
    out, record = quantized
    names = sorted(path.name for path in out.iterdir())
    assert names == ["model", QUANTIZATION, "report.html"]
    assert from_json(QuantizationRecord, (out / QUANTIZATION).read_bytes(), source="r") == record
    assert record.shipped.files == {
        path.name: sha256_file(path) for path in (out / "model").iterdir()
    }
    assert [v.precision for v in record.variants] == ["f32", "int8", "w8"]
    assert sum(v.shipped for v in record.variants) == 1
    assert record.quantization.judged_by == "labels"
    for layer in record.quantization.layers:
        assert layer.alone_sqnr_db is not None
        assert layer.alone is not None
        assert layer.alone.accuracy.n > 0
    assert record.explanation.startswith("Convolutions and matrix products take")
    assert not list(out.parent.glob(".*"))


def test_the_first_sentence_says_how_long_it_takes(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    told = Told()
    run_quantize(asked(fitted.folder, photos, epochs=0), tmp_path / "out", told)
    first = next(one for one in told.sentences if one.startswith("Quantizing"))
    assert re.match(r"Quantizing mobilenet_v1 \S+ @32, about \d+ \w+; \d+ images of train", first)


@pytest.mark.parametrize(
    ("runtimes", "others"),
    [
        (("onnxruntime",), 0),
        (("openvino",), 1),
        (("openvino", "onnxruntime"), 1),
        (("openvino", "openvino"), 1),
        ((), 1),
    ],
)
def test_forecast_counts_what_is_made_beside_the_ladder(
    fitted: Artefact,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtimes: tuple[str, ...],
    others: int,
) -> None:
    """It is climbed on ONNX Runtime whoever is asked for."""
    monkeypatch.setattr(quantize_forecast, "installed_runtimes", lambda: list(RUNTIMES.values()))
    monkeypatch.setattr(quantize_forecast, "OTHER_S", 1e6)
    source = open_source(str(fitted.folder), tmp_path)
    card = source.card
    images = read_images(
        photos, card.preprocessing, card.classes, source.channels, 0, Silent(), skip_bad=False
    )
    found = forecast_s(source, images, threads=1, explain=False, runtimes=runtimes)
    assert round(found / 1e6) == others


@pytest.mark.parametrize("content", [None, "mine"])
def test_folder_made_meanwhile_is_left_alone_and_the_result_kept(
    fitted: Artefact,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
) -> None:
    out = tmp_path / "out"

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        for folder in (out, tmp_path / "out-2"):
            folder.mkdir()
            if content is not None:
                (folder / "note").write_text(content)
        return measured_files(*arguments, **named)

    monkeypatch.setattr(quantize_module, "measured_files", meanwhile)
    with pytest.raises(
        ArtefactError, match=r"out was made by something else meanwhile.*The result is in .*out-3;"
    ):
        run_quantize(asked(fitted.folder, photos, epochs=0), out)
    record = from_json(
        QuantizationRecord, (tmp_path / "out-3" / QUANTIZATION).read_bytes(), source="r"
    )
    assert set(record.shipped.files) == {p.name for p in (tmp_path / "out-3" / "model").iterdir()}
    assert [path.read_text() for path in out.iterdir()] == ([] if content is None else [content])
    assert not list(tmp_path.glob(".*"))


def test_two_at_once_are_told_apart(fitted: Artefact, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        locked(out, print),
        pytest.raises(ConfigError, match=r"Another run works on the output folder .*out: process"),
    ):
        run_quantize(asked(fitted.folder, photos), out)


def test_full_disk_is_a_sentence_and_nothing_is_left(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(quantize_module, "write_atomic", full)
    with pytest.raises(StorageError, match=r"The disk of .* is full; make room and run the same"):
        run_quantize(asked(fitted.folder, photos, epochs=0), tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())


def test_page_shows_layers_and_escapes_class_names(
    quantized: tuple[Path, QuantizationRecord],
) -> None:
    out, record = quantized
    page = (out / "report.html").read_text()
    assert record.quantization.sentence in page.replace("&#39;", "'")
    assert "What the integers cost" in page
    assert "blocks.1.depthwise.conv" in page
    assert "dark <b>above" not in page


def test_shipped_script_runs_without_this_package(
    quantized: tuple[Path, QuantizationRecord], photos: Path
) -> None:
    out, _ = quantized
    photo = next(photos.glob("*/*.png"))
    done = subprocess.run(
        [sys.executable, out / "model" / "run.py", photo],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "dark" in done.stdout


def test_images_without_labels_are_judged_by_agreement(
    fitted: Artefact, loose: Path, tmp_path: Path
) -> None:
    told = Told()
    record = run_quantize(asked(fitted.folder, loose), tmp_path / "out", told)
    assert record.quantization.judged_by == "agreement"
    assert record.quantization.images == 16
    assert record.headline is None
    assert any("they have no labels" in sentence for sentence in told.sentences)


def test_weights_and_exported_files_are_sources_too(
    fitted: Artefact, loose: Path, tmp_path: Path
) -> None:
    source = open_source(str(fitted.folder / "network.safetensors"), tmp_path)
    assert source.card.classes == fitted.classes
    record = run_quantize(asked(source.float_onnx, loose, epochs=0), tmp_path / "out")
    assert record.network == fitted.network.spec.label
    int8 = next(v for v in record.variants if v.precision == "int8")
    assert int8.size_bytes < record.variants[0].size_bytes


def test_python_face_does_the_same(fitted: Artefact, loose: Path, tmp_path: Path) -> None:
    record = quantize(
        fitted.folder, loose, tmp_path / "out", max_drop=100, runtimes=("onnxruntime",), epochs=0
    )
    assert record.command.startswith("pocketvision.quantize(")


def test_calibration_does_not_see_what_judges(fitted: Artefact, photos: Path, loose: Path) -> None:
    pre, classes = fitted.preprocessing, fitted.classes
    for folder in (photos, loose):
        images = read_images(folder, pre, classes, 3, 0, Silent())
        calibration = {image.tobytes() for image in images.calibration}
        assert calibration.isdisjoint(image.tobytes() for image in images.judged)


def test_files_in_integers_are_refused(
    quantized: tuple[Path, QuantizationRecord], loose: Path, tmp_path: Path
) -> None:
    out, record = quantized
    if record.shipped.precision != "int8":
        pytest.skip("the float file was faster here")
    with pytest.raises(ConfigError, match="is in integers already; give the float file"):
        run_quantize(asked(out / "model" / "model.onnx", loose), tmp_path / "out")


def test_bad_input_is_refused_and_nothing_is_written(
    fitted: Artefact, photos: Path, loose: Path, tmp_path: Path
) -> None:
    out, empty, one, others = (tmp_path / n for n in ("out", "empty", "one", "others"))
    empty.mkdir()
    one.mkdir()
    Image.new("RGB", (40, 40)).save(one / "a.png")
    for name in ("cat", "dog"):
        (others / name).mkdir(parents=True)
        for k in range(4):
            noise = np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(noise).save(others / name / f"{name}{k}.png")
    with pytest.raises(DataError, match="does not exist; give a folder of images"):
        run_quantize(asked(fitted.folder, tmp_path / "none"), out)
    with pytest.raises(DataError):
        run_quantize(asked(fitted.folder, empty), out)
    with pytest.raises(DataError, match=r"holds 1 image; quantizing needs 2"):
        run_quantize(asked(fitted.folder, one), out)
    with pytest.raises(ConfigError, match=r"has the classes cat, dog, the network names dark"):
        run_quantize(asked(fitted.folder, others), out)
    with pytest.raises(ArtefactError, match="exists already; give another --out"):
        run_quantize(asked(fitted.folder, photos), empty)
    with pytest.raises(ConfigError, match=r"max-drop=-1 is out of range"):
        asked(fitted.folder, photos, max_drop_points=-1)
    with pytest.raises(ConfigError, match=r"runtime='onxruntime' is unknown"):
        asked(fitted.folder, photos, runtimes=("onxruntime",))
    with pytest.raises(ConfigError, match="nothing"):
        run_quantize(asked("nothing", loose), out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "one", "others"]


def test_unreadable_images_are_named_or_left_out(
    fitted: Artefact, loose: Path, photos: Path, tmp_path: Path
) -> None:
    pre, classes = fitted.preprocessing, fitted.classes
    some, none, sorted_ = tmp_path / "some", tmp_path / "none", tmp_path / "sorted"
    shutil.copytree(loose, some)
    shutil.copytree(photos, sorted_)
    none.mkdir()
    for folder in (some, none, sorted_ / fitted.classes[0]):
        (folder / "a.jpg").write_text("hello")
        (folder / "b.jpg").write_text("hello")
    for folder in (some, sorted_):
        with pytest.raises(DataError, match=r"(?s)a\.jpg.*--skip-bad"):
            read_images(folder, pre, classes, 3, 0, Silent())
        assert len(read_images(folder, pre, classes, 3, 0, Silent(), skip_bad=True).judged)
    with pytest.raises(DataError, match=r"0 of 2 images can be read; quantizing needs 2"):
        read_images(none, pre, classes, 3, 0, Silent(), skip_bad=True)


def test_equal_images_give_a_file_that_works(fitted: Artefact, tmp_path: Path) -> None:
    """Constant activations: ranges of no width."""
    folder = tmp_path / "grey"
    folder.mkdir()
    for k in range(6):
        Image.new("RGB", (40, 40), (120, 120, 120)).save(folder / f"{k}.png")
    record = run_quantize(asked(fitted.folder, folder), tmp_path / "out")
    assert record.quantization.rungs
