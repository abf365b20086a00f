"""Hyperspectral scenes on the command line: answers, exit codes, and no traceback."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from command_line import Answer, Run, answer, called
from numpy.typing import NDArray
from PIL import Image

from pocketvision.budget import Budget
from pocketvision.data.scene import matlab
from pocketvision.data.scene.reading import open_scene
from pocketvision.errors import MissingExtraError
from pocketvision.mapping import finish, pipeline
from pocketvision.mapping import verify as scene_verify
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.shrink_config import SceneShrinkConfig
from pocketvision.record.timing import Latency

HEIGHT, WIDTH, BANDS = 40, 48, 20
QUICK = (
    *("--window", "9", "--components", "6", "--models", "mobile_patch", "--steps", "12"),
    *("--precision", "f32", "--max-drop", "100", "--device", "cpu"),
)


def answered(*words: object) -> Answer:
    """As `called`, with what it printed; for fixtures, which have no `capsys`."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = called(*words)
    return answer(code, out.getvalue(), err.getvalue())


def small_labels() -> NDArray[np.uint8]:
    """Four classes in patches of 8x8 pixels, numbered with gaps; every third row has none."""
    rows, columns = np.indices((HEIGHT, WIDTH)) // 8
    numbers: NDArray[np.uint8] = np.array([2, 4, 6, 9], np.uint8)[
        (rows + 2 * columns + columns // 3) % 4
    ]
    numbers[rows % 3 == 2] = 0
    return numbers


def small_cube(bands: int = BANDS) -> NDArray[np.int16]:
    """A curve for each class, and noise."""
    generator = np.random.default_rng(0)
    curves = generator.uniform(1000, 4000, (10, bands))
    noise = generator.normal(0, 300, (HEIGHT, WIDTH, bands))
    return (curves[small_labels()] + noise).astype(np.int16)


def write(folder: Path, cube: NDArray[np.generic], labels: NDArray[np.generic]) -> Path:
    folder.mkdir(parents=True)
    np.save(folder / "cube.npy", cube)
    np.save(folder / "labels.npy", labels)
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "scene", small_cube(), small_labels())


class Fit(NamedTuple):
    """What a `fit` that was interrupted answered, then the same command again, and its folder."""

    stopped: Answer
    again: Answer
    folder: Path


@pytest.fixture(scope="module")
def fit_in_two(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    out = tmp_path_factory.mktemp("out") / "fitted"
    words = ("fit", scene, "--out", out, "--task", "hyperspectral", *QUICK)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "finish", interrupt)
        stopped = answered(*words)
    return Fit(stopped, answered(*words), out)


@pytest.fixture(scope="module")
def fitted(fit_in_two: Fit) -> Path:
    """The folder that one `fit` of the command line wrote."""
    return fit_in_two.folder


def test_fit_prints_verdict_methods_and_leakage(fit_in_two: Fit) -> None:
    """Interrupted in between, the same command goes on."""
    stopped, answer, _ = fit_in_two
    assert stopped.code == 130
    assert "Interrupted. Run the same command again to go on." in stopped.err
    assert answer.code == 0, answer.err
    assert "Going on with the unfinished run" in answer.err
    printed = " ".join(answer.out.split())
    assert printed.startswith("mobile_patch 9x9x6 as f32 names ")
    assert "hold a training centre share pixels runs training" in printed
    assert " 0 % " in printed
    assert "Leakage shares of test windows that hold a training centre, and that share" in printed
    for name in ("map.png", "report.html", "run.py"):
        assert name in printed.replace(" ", "")


def test_verify_passes_and_a_tampered_model_fails(
    run: Run, fitted: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((fitted / "record.json").read_text())
    file = next(file for file in record["files"] if file["shipped"])
    again = (Latency(**file["latency"]), Latency(**file["pixel_latency"]))
    key = (file["form"], file["precision"])
    monkeypatch.setattr(scene_verify, "measure_files", lambda *_: {key: again})
    verified = run("verify", fitted, scene, "--json")
    assert verified.code == 0, verified.out
    assert json.loads(verified.out)["passed"] is True
    labels = run("verify", fitted, scene, "--labels", scene / "labels.npy")
    assert labels.code == 2
    assert "the fit had no --labels" in labels.err
    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))
    with (copy / "model" / "model.onnx").open("ab") as file:
        file.write(b"more")
    tampered = run("verify", copy, scene)
    assert tampered.code == 1
    assert "FAIL" in tampered.out
    other = write(tmp_path / "other", small_cube() + np.int16(1), small_labels())
    altered = run("verify", fitted, other)
    assert altered.code == 2
    assert "is not the scene that" in altered.err


def test_map_writes_what_the_ending_says(
    run: Run, fitted: Path, scene: Path, tmp_path: Path
) -> None:
    """Labels have gaps: the array has classes 1..K, the GeoTIFF the label file's numbers."""
    classes = np.load(fitted / "classes.npy")
    answer = run("map", fitted, scene, "--out", tmp_path / "map.npy", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert sum(found["pixels"].values()) == found["classified"] == HEIGHT * WIDTH
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), classes)
    assert run("map", fitted, scene, "--out", tmp_path / "map.tif").code == 0
    read = open_scene(scene, labels=tmp_path / "map.tif")
    assert set(read.class_ids) <= {2, 4, 6, 9}
    unsure = ("--uncertainty", tmp_path / "unsure.png")
    shown = run("map", fitted, scene / "cube.npy", "--out", tmp_path / "map.png", *unsure)
    assert shown.code == 0
    assert "1,920 pixels in" in shown.out
    assert "class 9" in shown.out
    assert (tmp_path / "unsure.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "map.jpg"), "map.jpg ends in '.jpg'; expected one of"),
        (("--out", "there.npy"), "there.npy exists; nothing was changed"),
        (("--out", "a.npy", "--uncertainty", "a.npy"), "cannot be both maps"),
    ],
)
def test_map_refuses_bad_targets(
    run: Run,
    fitted: Path,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "there.npy").write_text("mine")
    monkeypatch.chdir(tmp_path)
    answer = run("map", fitted, scene, *words)
    assert answer.code == 2
    assert message in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["there.npy"]


def test_map_refuses_other_bands_and_other_folders(
    run: Run, fitted: Path, scene: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "cube.npy", small_cube(bands=17))
    answer = run("map", fitted, tmp_path / "cube.npy", "--out", tmp_path / "map.npy")
    assert answer.code == 2
    assert "the cube has 17 bands, this network takes 20; give a cube of the same" in answer.err
    empty = run("map", tmp_path, scene, "--out", tmp_path / "map.npy")
    assert empty.code == 2
    assert "is not a network fitted to a scene" in empty.err
    assert not (tmp_path / "map.npy").exists()


def test_map_turns_declared_no_data_to_0(run: Run, fitted: Path, tmp_path: Path) -> None:
    cube = small_cube()
    cube[3, 4:8] = -9999
    np.save(tmp_path / "cube.npy", cube)
    words = ("map", fitted, tmp_path / "cube.npy", "--out", tmp_path / "map.npy")
    undeclared = run(*words)
    assert undeclared.code == 2
    assert "say so with --no-data -9999" in undeclared.err
    assert run(*words, "--no-data", "-9999").code == 0
    gone = np.argwhere(np.load(tmp_path / "map.npy") == 0)
    assert gone.tolist() == [[3, 4], [3, 5], [3, 6], [3, 7]]


def test_predict_sends_scenes_to_map(run: Run, fitted: Path) -> None:
    answer = run("predict", fitted, "a.png")
    assert answer.code == 2
    assert "use `pocketvision map`" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--window", "8"), "window=8 is not allowed; expected an odd number of pixels"),
        (("--window", "51"), "window of 51 x 51 pixels is larger than the scene of 40 x 48"),
        (("--models", "hybrid"), "model='hybrid' is unknown"),
        (("--models", "hybrid"), "Did you mean 'hybridsn'?"),
        (("--flip",), "--flip is an option for photos; leave it away with --task hyperspectral"),
        (("--epochs", "3"), "--epochs is an option for photos"),
        (("--memory", "5MB"), "--memory is an option for photos"),
        (("--components", "21"), "components=21 is more than the 20 bands of the cube"),
        (("--precision", "bf16"), "precision='bf16' is unknown"),
        (("--split", "given"), "--split given and --mask FILE go together"),
        (("--split", "given", "--mask", "no.npy"), "'no.npy' does not exist"),
        (("--labels", "no.npy"), "'no.npy' does not exist"),
        (("--weights", "nowhere"), "nowhere is not a folder; give the folder that `fit` wrote"),
        (("--latency", "5"), "latency '5' has no unit"),
        (("--train-per-class", "5"), "train-per-class goes with --split random"),
    ],
)
def test_bad_option_is_answered_with_exit_code_2(
    run: Run, scene: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    answer = run("fit", scene, "--out", tmp_path / "out", "--task", "hyperspectral", *QUICK, *words)
    assert answer.code == 2
    assert message in answer.err
    assert not list(tmp_path.iterdir())


def test_profile_of_a_scene_is_what_fit_takes(run: Run, scene: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    of = ("--scene", scene, *QUICK[:6], "--precision", "f32")
    done = run("profile", *of, "--out", table)
    assert done.code == 0
    assert re.search(r"Timed 1 network whole, and \d+ layers for narrower forms", done.out)
    words = ("--task", "hyperspectral", *QUICK, "--latency", "0.000001ms", "--target", table)
    done = run("fit", scene, "--out", tmp_path / "out", *words)
    assert done.code == 3
    assert "by the table of onnxruntime f32, 1 thread, on" in done.err
    assert run("profile", *of, "--bundle", tmp_path / "bundle").code == 0
    assert (tmp_path / "bundle" / "measure.py").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scene", "s", "--space", "v3_small"), "--space is an option for photos; leave it away"),
        (("--scene", "s", "--classes", "4"), "--classes is an option for photos; leave it away be"),
        (("--window", "9"), "--window is an option for scenes; leave it away without --scene"),
        (("--scene", "s", "--precision", "bf16"), "precision='bf16' is unknown"),
        (("--scene", "nowhere"), "nowhere"),
    ],
)
def test_bad_option_of_profile_is_answered_with_exit_code_2(
    run: Run, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = run("profile", *words, "--out", tmp_path / "table.json")
    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "t.json"), "target='t.json' cannot be read"),
        (("--workers", "0"), "workers=0"),
        (("--workers", "many"), "workers='many' is not allowed; expected a number"),
        (("--epochs", "3"), "for photos; leave it away for one that was fitted to a scene"),
        (("--multiple", "0"), "multiple=0"),
        (("--labels", "no.npy"), "'no.npy' does not exist"),
    ],
)
def test_bad_option_of_shrink_is_answered_with_exit_code_2(
    run: Run, fitted: Path, scene: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    given = ("--images", scene, "--latency", "1ms", "--out", tmp_path / "out", *words)
    answer = run("shrink", fitted, *given)
    assert answer.code == 2
    assert message in answer.err
    assert not list(tmp_path.iterdir())


def test_shrink_asks_for_what_was_typed(
    run: Run, fitted: Path, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SceneShrinkConfig] = []

    def shrink(config: SceneShrinkConfig, out: Path, *args: object, command: str) -> SceneArtefact:
        asked.append(config)
        assert "shrink" in command
        return SceneArtefact(fitted)

    monkeypatch.setattr("pocketvision.mapping.shrink.run_scene_shrink", shrink)
    given = ("--images", scene, "--latency", "1ms", "--size", "2MB", "--time", "5m", "--steps", "9")
    more = ("--multiple", "4", "--workers", "2", "--out", tmp_path / "out")
    answer = run("shrink", fitted, *given, *more)
    assert answer.code == 0
    assert "Leakage" in answer.out
    (config,) = asked
    assert config == SceneShrinkConfig(
        source=str(fitted),
        data=str(scene),
        budget=Budget(latency_ms=1.0, size_bytes=2_000_000, time_s=300.0),
        multiple=4,
        steps=9,
        workers=2,
    )


def test_options_of_scenes_are_refused_with_photos(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (20, 16)).save(tmp_path / "a.png")
    answer = run("fit", tmp_path, "--out", tmp_path / "out", "--window", "9")
    assert answer.code == 2
    assert "--window is an option for scenes (--task hyperspectral)" in answer.err


def test_labels_are_not_for_networks_for_photos(run: Run, tmp_path: Path) -> None:
    answer = run("verify", tmp_path, tmp_path, "--labels", "l.npy")
    assert answer.code == 2
    assert "holds a network for photos; --labels and --mask are for scenes" in answer.err


def other_shape() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    return small_cube(), small_labels()[:30]


def transposed() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    return small_cube(), small_labels().T


def nan_inside() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    cube = small_cube().astype(np.float32)
    cube[2, 3, 4] = np.nan
    return cube, small_labels()


def negative_fill() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    cube = small_cube()
    cube[2, 3] = -999
    return cube, small_labels()


def no_labels() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    return small_cube(), np.zeros_like(small_labels())


def one_class() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    return small_cube(), np.where(small_labels() == 2, 2, 0)


def one_pixel_each() -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    labels = np.zeros_like(small_labels())
    labels[2, 2], labels[30, 30] = 1, 2
    return small_cube(), labels


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_shape, "but the labels in"),
        (transposed, "transposed they would fit"),
        (nan_inside, "say so with --no-data nan"),
        (negative_fill, "1 of 1,920 pixels have -999 in every band"),
        (no_labels, "0 different numbers above 0; expected 1 to 200 classes"),
        (one_class, "a classifier needs two or more"),
        (one_pixel_each, "leave no class both to train and to test on"),
    ],
)
def test_bad_scene_is_answered_with_exit_code_2(
    run: Run,
    tmp_path: Path,
    spoil: Callable[[], tuple[NDArray[np.generic], NDArray[np.generic]]],
    message: str,
) -> None:
    folder = write(tmp_path / "scene", *spoil())
    answer = run("fit", folder, "--out", tmp_path / "out", "--task", "hyperspectral", *QUICK)
    assert answer.code == 2
    assert message in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_more_pixels_than_a_class_has_are_told_not_hidden(
    run: Run, scene: Path, tmp_path: Path
) -> None:
    """And a budget nobody meets ends it there: exit code 3, no folder."""
    words = ("--split", "random", "--train-per-class", "900", "--size", "900B")
    answer = run("fit", scene, "--out", tmp_path / "out", "--task", "hyperspectral", *QUICK, *words)
    assert answer.code == 3
    assert "has too few for 900 to train on" in answer.err
    assert "No network fits 900 B; the nearest is mobile_patch 9x9x6 as f32" in answer.err
    assert not (tmp_path / "out").exists()


def test_too_short_time_exits_3(run: Run, scene: Path, tmp_path: Path) -> None:
    answer = run(
        *("fit", scene, "--out", tmp_path / "out", "--task", "hyperspectral", *QUICK),
        *("--time", "1s"),
    )
    assert answer.code == 3
    assert "The time is too short" in answer.err
    assert not (tmp_path / "out").exists()


def test_failed_gate_exits_1(
    run: Run, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "build_files", lambda *_: [])
    answer = run("fit", scene, "--out", tmp_path / "out", "--task", "hyperspectral", *QUICK)
    assert answer.code == 1
    assert "mobile_patch 9x9x6 is trained but cannot be shipped" in answer.err


def test_matlab_7_3_without_its_reader_names_the_extra(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "cube.mat", "w") as file:
        file["cube"] = small_cube().T

    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"This needs {module}: pip install 'pocketvision[{extra}]'")

    monkeypatch.setattr(matlab, "require", missing)
    answer = run(
        *("fit", tmp_path / "cube.mat", "--out", tmp_path / "out", "--task", "hyperspectral"),
        *QUICK,
    )
    assert answer.code == 2
    assert "This needs h5py: pip install 'pocketvision[hyperspectral]'" in answer.err


def test_existing_folders_are_left_alone(run: Run, fitted: Path, scene: Path) -> None:
    before = sorted(path.name for path in fitted.iterdir())
    answer = run("fit", scene, "--out", fitted, "--task", "hyperspectral", *QUICK)
    assert answer.code == 2
    assert "exists and holds a finished run; nothing was changed" in answer.err
    assert sorted(path.name for path in fitted.iterdir()) == before


def test_weights_of_the_other_task_are_refused(
    run: Run, fitted: Path, scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "record.json").write_text('{"schema_version": 1}')
    words = ("--out", tmp_path / "out", "--weights")
    answer = run("fit", scene, "--task", "hyperspectral", *words, tmp_path / "photos")
    assert answer.code == 2
    assert "holds a network for photos, not for scenes" in answer.err
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(3):
            name = f"{number}.png"
            Image.new("RGB", (20, 16), (9, 9 * number, len(label))).save(
                tmp_path / "images" / label / name
            )
    answer = run("fit", tmp_path / "images", *words, fitted)
    assert answer.code == 2
    assert "holds a network for hyperspectral scenes, not for photos" in answer.err
    assert not (tmp_path / "out").exists()


def test_doctor_tells_classes_leakage_and_findings(run: Run, scene: Path) -> None:
    answer = run("doctor", scene, "--window", "9")
    assert "40x48 pixels, 20 bands, int16" in answer.out
    assert "class 9" in answer.out
    found = json.loads(run("doctor", scene, "--window", "9", "--json").out)
    assert found["shape"] == [HEIGHT, WIDTH, BANDS]
    assert answer.code in (0, 1)


def test_help_names_the_verbs_and_the_options_of_scenes(run: Run) -> None:
    answer = run("--help")
    for verb in ("doctor", "map"):
        assert f" {verb} " in answer.out
    assert "Hyperspectral scenes" in run("fit", "--help").out
