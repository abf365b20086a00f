"""The command line as a person meets it: answers, exit codes, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from command_line import Run
from PIL import Image

from pocketvision.cli import app, display
from pocketvision.fitting import pipeline


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of three pictures each."""
    folder = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            colour = (80 * label, 40 * number, 90)
            Image.new("RGB", (20, 16), colour).save(folder / name / f"{number}.png")
    return folder


HELP = """
import contextlib, io, sys
from pocketvision.cli import app
sys.argv = ["pocketvision", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    app.main()
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_help_is_quick_as_it_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert {"pocketvision", "typer"} <= loaded
    assert not loaded & {"torch", "lightning", "onnx", "onnxruntime", "numpy", "scipy", "PIL"}


def test_help_names_every_verb(run: Run) -> None:
    answer = run("--help")
    assert answer.code == 0
    for verb in (
        "fit",
        "predict",
        "verify",
        "reproduce",
        "models",
        "describe",
        "compare",
        "measure",
        "sample",
    ):
        assert f" {verb} " in answer.out
    assert run("--version").out.strip() == "0.1.0"


def test_models_lists_and_filters(run: Run) -> None:
    assert json.loads(run("models", "mobilenet_v3*", "--json").out) == [
        "mobilenet_v3_large",
        "mobilenet_v3_large_minimalistic",
        "mobilenet_v3_small",
        "mobilenet_v3_small_minimalistic",
    ]
    assert "75.2%" in run("models").out


def test_describe_prints_the_published_counts(run: Run) -> None:
    answer = run("describe", "mobilenet_v3_small", "--resolution", "224")
    assert "2,542,856 parameters, 56,510,400 MACs" in answer.out
    spec = json.loads(run("describe", "mobilenet_v2", "--json").out)
    assert spec["name"] == "mobilenet_v2"


def test_sample_writes_real_digits_once(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    assert run("sample", "digits", folder).code == 0
    assert {p.name for p in folder.iterdir()} == {"train", "val", "test"}
    again = run("sample", "digits", folder)
    assert again.code == 2
    assert "exists" in again.err
    wrong = run("sample", "digit", tmp_path / "other")
    assert wrong.code == 2
    assert "Did you mean 'digits'?" in wrong.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latency", "5"], "latency '5' has no unit; write it like 5ms"),
        (["--latency", "-1ms"], "latency '-1ms' must be above zero"),
        (["--latency", "0ms"], "latency '0ms' must be above zero"),
        (["--latency", "5 parsecs"], "unknown unit 'parsecs'; units are: us, µs, ms, s"),
        (["--size", "0MB"], "size '0MB' must be above zero"),
        (["--time", "soon"], "time 'soon' is not a number with a unit"),
        (["--models", "mobilenet_v33"], "model 'mobilenet_v33' is unknown"),
        (["--runtime", "onnx"], "runtime='onnx' is unknown"),
        (["--precision", "int4"], "precision='int4' is unknown"),
        (["--max-drop", "-1"], "max-drop=-1.0 is out of range"),
        (["--resolution", "8"], "resolution=8 is out of range; expected 32 to"),
        (["--threads", "0"], "threads=0 is out of range"),
        (["--batch-size", "1"], "batch-size=1 is out of range; expected 2 to"),
        (["--epochs", "0"], "epochs=0 is out of range"),
        (["--learning-rate", "0"], "learning-rate=0.0 is out of range"),
        (["--mixup", "-1"], "mixup=-1.0 is out of range"),
        (["--weights", "nowhere.safetensors"], "weights='nowhere.safetensors' does not exist"),
        (["--device", "tpu"], "'tpu' is not one of"),
        (["--laten", "5ms"], "No such option: --laten"),
    ],
)
def test_bad_option_is_answered_with_exit_code_2(
    run: Run, photos: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    out = tmp_path / "out"
    answer = run("fit", photos, "--out", out, *words)
    assert answer.code == 2
    assert message in answer.err.replace("│ ", "")
    assert not out.exists()


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def one_class(folder: Path) -> None:
    shutil.rmtree(folder / "dog")


def text_as_jpg(folder: Path) -> None:
    (folder / "cat" / "note.jpg").write_text("this is text")


def truncated(folder: Path) -> None:
    path = folder / "cat" / "cut.jpg"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:-600])


def different_classes(folder: Path) -> None:
    for split, names in (("train", ("cat", "dog")), ("val", ("cat", "cow"))):
        for name in names:
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (9, 9), (len(split), len(name), 0)).save(
                folder / split / name / "1.png"
            )
    shutil.rmtree(folder / "cat")
    shutil.rmtree(folder / "dog")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def lonely(photos: Path) -> None:
    (photos / "cow").mkdir()
    Image.new("RGB", (20, 16), "green").save(photos / "cow" / "1.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (empty, "holds no readable image"),
        (one_class, "one class"),
        (text_as_jpg, "cat/note.jpg"),
        (truncated, "cat/cut.jpg"),
        (different_classes, "cow"),
        (lonely, "val would have no image of 'cow'. Every class needs 2 different images"),
        (gone, "does not exist"),
    ],
)
def test_bad_images_are_answered_with_exit_code_2(
    run: Run, photos: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(photos)
    answer = run("fit", photos, "--out", tmp_path / "out", "--latency", "5ms")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_unreadable_files_mention_the_way_out(run: Run, photos: Path, tmp_path: Path) -> None:
    text_as_jpg(photos)
    assert "--skip-bad" in run("fit", photos, "--out", tmp_path / "out").err


def test_existing_output_folder_is_left_alone(run: Run, photos: Path, tmp_path: Path) -> None:
    answer = run("fit", photos, "--out", tmp_path)
    assert answer.code == 2
    assert "exists and holds something else; nothing was changed" in answer.err


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX systems alone")
def test_folder_whose_name_is_no_text_is_refused_at_once(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"ph\xe9")
    for words in ((tmp_path / name, "--out", tmp_path / "out"), (photos, "--out", tmp_path / name)):
        answer = run("fit", *words, "--latency", "5ms")
        assert answer.code == 2
        assert r"ph\udce9' is no text in UTF-8 and could not be recorded; rename it." in answer.err


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="whoever runs this may read every file"
)
def test_file_without_permission_is_named(run: Run, photos: Path, tmp_path: Path) -> None:
    closed = next(photos.rglob("*.png"))
    closed.chmod(0)
    answer = run("fit", photos, "--out", tmp_path / "out", "--latency", "5ms")
    closed.chmod(0o644)
    assert answer.code == 2
    assert f"{closed.name}: Permission denied" in answer.err


def test_output_that_cannot_be_made_is_refused_at_once(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    answer = run("fit", photos, "--out", tmp_path / "file" / "out", "--latency", "5ms")
    assert answer.code == 2
    assert "file is not a folder that can be written" in answer.err
    assert "Reading images" not in answer.err


def test_measure_refuses_what_is_no_onnx(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("not a model")
    answer = run("measure", tmp_path / "x.onnx")
    assert answer.code == 2
    assert "x.onnx is not an ONNX model" in answer.err
    assert "does not exist" in run("measure", tmp_path / "y.onnx").err


def test_predict_and_verify_refuse_what_was_not_fitted(run: Run, tmp_path: Path) -> None:
    for words in (("predict", tmp_path, "a.png"), ("verify", tmp_path, tmp_path)):
        answer = run(*words)
        assert answer.code == 2
        assert "is not a fitted network" in answer.err


def test_log_progress_is_one_line_a_minute_with_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    advance = display.LineProgress("Training", clock=lambda: now[0])
    for step in range(1, 101):
        now[0] += 3.0
        advance(step, 200, f"step {step}")
    assert capsys.readouterr().err.splitlines() == [
        "Training ...",
        "Training: 20/200, about 9 m left, step 20",
        "Training: 40/200, about 8 m left, step 40",
        "Training: 60/200, about 7 m left, step 60",
        "Training: 80/200, about 6 m left, step 80",
        "Training: 100/200, about 5 m left, step 100",
    ]


def test_interrupt_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_fit", interrupt)
    answer = run("fit", tmp_path, "--out", tmp_path / "out")
    assert answer.code == 130
    assert "Run the same command again to go on" in answer.err


def test_open_axes_can_be_given(run: Run, tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["n", "h", 4])],
        [value("y", onnx.TensorProto.FLOAT, ["n", "h", 4])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    assert "give its shape, for example x=N,N,4" in run("measure", tmp_path / "m.onnx").err
    timed = run("measure", tmp_path / "m.onnx", "--shape", "x=1,8,4", "--json")
    assert json.loads(timed.out)["latency"]["median_ms"] > 0
    wrong = run("measure", tmp_path / "m.onnx", "--shape", "1x8x4")
    assert wrong.code == 2
    assert "shape '1x8x4' is not understood; write it like x=1,3,224,224" in wrong.err


def test_folder_that_cannot_be_written_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "file" / "below").mkdir()

    monkeypatch.setattr(app, "app", fail)
    answer = run("fit")
    assert answer.code == 2
    assert answer.err.startswith("Error: Not a directory: ")


def test_broken_torchvision_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(app, "app", fail)
    answer = run("fit")
    assert answer.code == 2
    assert "the installed torchvision does not fit the installed torch" in answer.err
    assert "pip uninstall torchvision" in answer.err


def test_budget_that_cannot_be_met_exits_3(run: Run, photos: Path, tmp_path: Path) -> None:
    words = ["--latency", "0.0001ms", "--models", "mobilenet_v1", "--width", "0.25"]
    words += ["--resolution", "32", "--runtime", "onnxruntime"]
    answer = run("fit", photos, "--out", tmp_path / "out", *words)
    assert answer.code == 3
    assert "No network meets 0.0001 ms on this machine" in answer.err
    assert "Ask for --latency" in answer.err
    assert not (tmp_path / "out").exists()


def test_whole_job_from_the_command_line(run: Run, tmp_path: Path) -> None:
    """fit, predict, verify and measure, in text and JSON."""
    photos, out = tmp_path / "photos", tmp_path / "fitted"
    for label, name in enumerate(("cat", "dog")):
        (photos / name).mkdir(parents=True)
        for number in range(12):
            noise = Image.effect_noise((20, 16), 60 + label * 40 + number)
            noise.save(photos / name / f"{number}.png")
    words = ["--models", "mobilenet_v1", "--width", "0.25", "--resolution", "32", "--epochs", "1"]
    words += ["--runtime", "onnxruntime", "--max-drop", "100", "--latency", "500ms"]
    fitted = run("fit", photos, "--out", out, *words)
    assert fitted.code == 0, fitted.err
    assert fitted.out.startswith("Budget met. mobilenet_v1 x0.25 @32 answers in")
    assert "Training mobilenet_v1 x0.25 @32 from scratch, 1 epochs" in fitted.err
    image = photos / "cat" / "1.png"
    found = json.loads(run("predict", out, image, "--json").out)
    assert sum(found[str(image)].values()) == pytest.approx(1)
    assert "probability" in run("predict", out, image, "--top", "1").out
    verified = run("verify", out, photos, "--latency", "500ms", "--json")
    assert verified.code == 0
    assert json.loads(verified.out)["passed"] is True
    timed = json.loads(run("measure", out / "model" / "model.onnx", "--json").out)["latency"]
    assert 0 < timed["low_ms"] <= timed["median_ms"] <= timed["high_ms"]
    (out / "model" / "run.py").write_text("altered")
    tampered = run("verify", out, photos)
    assert tampered.code == 1
    assert "FAIL" in tampered.out
    assert "altered" in tampered.out
