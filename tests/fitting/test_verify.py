"""The release gate: what it checks, and that it can fail."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from small_runs import write_photos

from pocketvision.data.index import Index
from pocketvision.errors import ArtefactError, ConfigError, DataError, MissingExtraError
from pocketvision.fitting import verify as module
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.checks import Check, Verification
from pocketvision.fitting.recorded import recorded_images
from pocketvision.fitting.seal import seal_of
from pocketvision.fitting.verify import verify
from pocketvision.measure.accuracy import LabelJudge
from pocketvision.record.files import IntegerWork
from pocketvision.record.run import Record
from pocketvision.record.timing import Latency
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.storage import to_json, write_atomic


@pytest.fixture
def copy(fitted: Artefact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _same_speed(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded speed again: measuring itself is tested elsewhere, and cannot be relied on."""
    recorded = fitted.record
    monkeypatch.setattr(module, "measure_latency", lambda *_: {"shipped": recorded.latency})
    monkeypatch.setattr(module, "shipped_peak_bytes", lambda _: recorded.peak_bytes)


def check(found: Verification, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


def failed(found: Verification) -> list[str]:
    return [c.name for c in found.checks if c.passed is False]


def write_record(folder: Path, record: Record, *, sealed: bool = False) -> None:
    """Edit record.json; sealed: as one who knows of the seal would, in run.json too."""
    write_atomic(folder / "record.json", to_json(record))
    if sealed:
        write_atomic(
            folder / "run.json", to_json(replace(Artefact(folder).state, seal=seal_of(folder)))
        )


def timed(
    monkeypatch: pytest.MonkeyPatch, recorded: Latency, low: float, high: float, noise: str = ""
) -> None:
    """From now on the shipped file takes that long, in recorded upper bounds."""
    low_ms, high_ms = low * recorded.high_ms, high * recorded.high_ms
    found = replace(recorded, low_ms=low_ms, median_ms=low_ms, high_ms=high_ms, noise=noise)
    monkeypatch.setattr(module, "measure_latency", lambda *_: {"shipped": found})
    monkeypatch.setattr(module, "judged", lambda latency, _: latency)


@pytest.fixture(autouse=True)
def _same_latency(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded latency again: timing itself is tested elsewhere, and cannot be relied on."""
    timed(monkeypatch, fitted.record.latency, 0.9, 1.0)


def test_untouched_artefact_passes_every_check(fitted: Artefact, photos: Path) -> None:
    found = verify(fitted.folder, photos)
    assert failed(found) == []
    assert found.passed
    assert found.same_machine
    assert found.not_checked == ()
    informing = {c.name for c in found.checks if c.passed is None}
    assert informing == {"conditions", "versions"}
    names = [c.name for c in found.checks]
    assert names[:7] == [
        "seal",
        "figures",
        "files",
        "size",
        "integers",
        "accuracy",
        "float accuracy",
    ]
    assert check(found, "accuracy").found == check(found, "accuracy").recorded
    assert check(found, "versions").found == "as recorded"


def test_copied_artefact_passes_with_the_test_images_alone(
    copy: Path, fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    """Neither the place nor the training images are needed."""
    images, rows, _ = recorded_images(fitted, photos)
    assert isinstance(images, Index)
    for row in rows.tolist():
        kept = tmp_path / "some" / "test" / images.paths[row]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(images.read(row))
    for data in (tmp_path / "some", tmp_path / "some" / "test"):
        found = verify(copy, data)
        assert found.passed
        assert check(found, "accuracy").passed


def test_without_images_the_rest_is_checked_and_the_gap_named(copy: Path) -> None:
    found = verify(copy)
    assert found.passed
    assert found.not_checked == ("accuracy", "float accuracy", "agreement")
    assert check(found, "accuracy").note == "needs the images: verify FOLDER IMAGES"
    assert check(found, "latency").passed
    (copy / "model" / "run.py").write_text("altered")
    assert failed(verify(copy)) == ["files", "size"]


@pytest.mark.parametrize("name", ["model.onnx", "run.py"])
def test_altered_file_fails(copy: Path, photos: Path, name: str) -> None:
    file = copy / "model" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    found = verify(copy, photos)
    assert failed(found) == ["files"]
    assert check(found, "files").found == f"altered, missing or added: {name}"


def test_altered_model_is_not_run(
    copy: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "model" / "model.onnx").write_bytes(b"hostile")
    monkeypatch.setattr(module, "integer_work", None)
    monkeypatch.setattr(module, "run_on_files", None)
    assert failed(verify(copy, photos)) == ["files", "size"]


@pytest.mark.parametrize("name", ["model.onnx", "run.py"])
def test_missing_file_fails(copy: Path, photos: Path, name: str) -> None:
    (copy / "model" / name).unlink()
    assert "files" in failed(verify(copy, photos))


def test_missing_model_folder_fails(copy: Path, photos: Path) -> None:
    shutil.rmtree(copy / "model")
    assert failed(verify(copy, photos)) == ["files"]


def test_added_file_fails_and_counts(copy: Path, photos: Path) -> None:
    (copy / "model" / "more.bin").write_bytes(b"0" * 1000)
    found = verify(copy, photos)
    assert failed(found) == ["files", "size"]
    assert check(found, "size").found.endswith("(+1,000 bytes)")


@pytest.mark.parametrize(
    "name", ["record.json", "network.json", "network.safetensors", "report.html"]
)
def test_missing_sealed_file_fails(copy: Path, photos: Path, name: str) -> None:
    (copy / name).unlink()
    found = verify(copy, photos)
    assert check(found, "seal").found == f"altered or missing: {name}"
    assert not found.passed


def test_swapped_weights_break_the_seal_and_move_the_figures(copy: Path, photos: Path) -> None:
    path = copy / "network.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({k: v.flip(0).contiguous() for k, v in tensors.items()}, path)
    found = verify(copy, photos)
    assert check(found, "seal").found == "altered or missing: network.safetensors"
    assert check(found, "agreement").passed is False
    assert check(found, "accuracy").passed, "the shipped file is another one"


def test_damaged_network_is_a_line_of_the_table(copy: Path, photos: Path) -> None:
    (copy / "network.safetensors").write_bytes(b"cut")
    found = verify(copy, photos)
    assert failed(found) == ["seal", "opened"]
    assert "network.safetensors" in check(found, "opened").note


def test_edited_accuracy_breaks_the_seal_and_contradicts_the_counts(
    copy: Path, fitted: Artefact, photos: Path
) -> None:
    raised = replace(fitted.record.headline, value=fitted.record.headline.value - 0.25)
    write_record(copy, replace(fitted.record, headline=raised))
    found = verify(copy, photos)
    assert failed(found) == ["seal", "figures"]
    assert check(found, "seal").found == "altered or missing: record.json"
    assert check(found, "figures").found == "2 contradictions"
    assert "the headline is not the accuracy of the shipped file" in check(found, "figures").note
    write_record(copy, replace(fitted.record, headline=raised), sealed=True)
    assert failed(verify(copy, photos)) == ["figures"], "whoever seals anew is found by figures"


@pytest.mark.parametrize(
    ("edited", "sealed", "note"),
    [
        ({"runtime": "openvino"}, False, ""),
        ({"runtime": "unheard of"}, True, "runtime='unheard of' is unknown"),
        ({"precision": "bf16"}, False, "precision='bf16' is unknown; expected one of"),
        ({"threads": 0}, False, "threads=0 is out of range"),
        ({"threads": 0}, True, "threads=0 is out of range"),
    ],
)
def test_record_that_names_another_model_is_a_line_of_the_table(
    copy: Path, fitted: Artefact, photos: Path, edited: dict[str, Any], sealed: bool, note: str
) -> None:
    """Sealed anew, it is found by the figures."""
    write_record(
        copy, replace(fitted.record, shipped=replace(fitted.shipped, **edited)), sealed=sealed
    )
    found = verify(copy, photos)
    assert failed(found) == [*([] if sealed else ["seal"]), "figures", "opened"]
    assert note in check(found, "opened").note


def test_record_nested_without_end_is_a_line_of_the_table(copy: Path, photos: Path) -> None:
    (copy / "record.json").write_bytes(b"[" * 200_000)
    assert failed(verify(copy, photos)) == ["seal", "opened"]


def test_clean_list_of_the_fit_tells_under_which_class_an_image_counts(
    copy: Path, fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    listed = "".join(f"{p.relative_to(moved).as_posix()}\n" for p in moved.rglob("*.png"))
    (tmp_path / "clean.txt").write_text(listed)
    for file in sorted((moved / "dark below").iterdir()):
        shutil.copy(file, moved / "dark <b>above" / f"copy-{file.name}")
    config = replace(fitted.state.config, only="gone.txt")
    write_atomic(copy / "run.json", to_json(replace(fitted.state, config=config)))
    message = r"6 of the recorded images lie .* list that told which, gone\.txt, is not there; say"
    with pytest.raises(DataError, match=message):
        recorded_images(Artefact(copy), moved)
    _, rows, judge = recorded_images(Artefact(copy), moved, tmp_path / "clean.txt")
    assert isinstance(judge, LabelJudge)
    labels = judge.labels
    assert len(rows) == fitted.record.headline.n
    assert labels.sum() == len(rows) // 2, "without the list all would count as the first class"
    assert check(verify(copy, moved, only=tmp_path / "clean.txt"), "accuracy").passed


def test_figures_that_agree_with_each_other_must_agree_with_the_images(
    copy: Path, fitted: Artefact, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forger who keeps everything consistent is left with files that do not do it."""
    monkeypatch.setattr(module, "contradictions", lambda *_: [])
    record = fitted.record
    claimed = replace(record.headline, value=record.headline.value + 2 / record.headline.n)
    shipped = next(c for c in record.verification if c.subject == "shipped")
    others = [c for c in record.verification if c is not shipped]
    verification = (*others, replace(shipped, accuracy=claimed))
    write_record(copy, replace(record, verification=verification), sealed=True)
    found = verify(copy, photos)
    assert failed(found) == ["accuracy"]
    assert check(found, "accuracy").note == "fails at more than 1 image below"


def test_record_without_the_shipped_file_fails(copy: Path, fitted: Artefact, photos: Path) -> None:
    write_record(copy, replace(fitted.record, verification=()), sealed=True)
    found = verify(copy, photos)
    assert failed(found) == ["figures"]
    assert "accuracy" not in [c.name for c in found.checks]


def test_layout_of_json_is_not_sealed_and_what_it_says_is(copy: Path, photos: Path) -> None:
    path = copy / "record.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(said.items())), indent=7))
    assert verify(copy).passed
    path.write_text(json.dumps({**said, "command": "another"}))
    assert "seal" in failed(verify(copy))


def test_model_card_may_be_added_to(copy: Path) -> None:
    with (copy / "README.md").open("a") as card:
        card.write("Intended use: ...")
    assert verify(copy).passed


def test_folder_of_an_earlier_version_was_not_sealed(copy: Path, fitted: Artefact) -> None:
    shipped = replace(fitted.shipped, integers=None)
    state = replace(fitted.state, seal={})
    write_atomic(copy / "record.json", to_json(replace(fitted.record, shipped=shipped)))
    write_atomic(copy / "run.json", to_json(state))
    found = verify(copy)
    assert found.passed
    assert found.not_checked[0] == "seal"
    assert check(found, "integers").passed is None


def test_fewer_integers_fail(copy: Path, fitted: Artefact, photos: Path) -> None:
    claimed = IntegerWork(layers=100, of=100, share=1.5)
    shipped = replace(fitted.shipped, integers=claimed)
    write_record(copy, replace(fitted.record, shipped=shipped), sealed=True)
    assert failed(verify(copy, photos)) == ["integers"]


def test_recorded_integers_are_those_of_the_shipped_file(fitted: Artefact) -> None:
    work = fitted.shipped.integers
    assert work is not None
    assert work.share == (1.0 if fitted.shipped.precision == "int8" else 0.0)
    assert work.of == 28, "MobileNetV1: 27 convolutions and a classifier"


def test_copies_elsewhere_do_not_change_the_images(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    """A recorded test image that lies under another class too is judged by its own."""
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    for file in sorted((moved / "dark below").iterdir())[:10]:
        shutil.copy(file, moved / "dark <b>above" / f"copy-{file.name}")
    _, rows, _ = recorded_images(fitted, moved)
    assert len(rows) == fitted.record.headline.n


def test_slower_machine_fails_only_beyond_both_intervals(
    fitted: Artefact, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = fitted.record.latency
    timed(monkeypatch, recorded, 1.1, 1.3)
    assert verify(fitted.folder).passed
    timed(monkeypatch, recorded, 1.2, 1.3)
    assert failed(verify(fitted.folder)) == ["latency"]
    assert verify(fitted.folder, latency="100s").passed


def test_noise_does_not_pass_for_speed(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, fitted.record.latency, 0.9, 5, noise="others took 40 %")
    found = check(verify(fitted.folder), "latency")
    assert found.passed is False
    assert found.note.endswith("; too noisy to say: others took 40 %")
    timed(monkeypatch, fitted.record.latency, 0.1, 1.1, noise="others took 40 %")
    assert check(verify(fitted.folder), "latency").passed


def test_hungrier_process_fails(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    peak = fitted.record.peak_bytes
    assert peak is not None
    most = max(round(1.25 * peak), peak + 2_000_000)
    monkeypatch.setattr(module, "shipped_peak_bytes", lambda _: most)
    assert check(verify(fitted.folder), "memory").passed
    monkeypatch.setattr(module, "shipped_peak_bytes", lambda _: most + 1)
    assert failed(verify(fitted.folder)) == ["memory"]
    monkeypatch.setattr(module, "shipped_peak_bytes", lambda _: None)
    assert verify(fitted.folder).not_checked[-1] == "memory"


def test_other_machine_informs_about_speed_unless_a_limit_is_given(
    copy: Path, fitted: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {**fitted.record.machine.versions, "onnxruntime": "0.1"}
    elsewhere = replace(fitted.record.machine, cpu="another", versions=versions)
    write_record(copy, replace(fitted.record, machine=elsewhere), sealed=True)
    timed(monkeypatch, fitted.record.latency, 9, 10)
    found = verify(copy)
    assert found.passed
    assert not found.same_machine
    assert check(found, "latency").passed is None
    assert check(found, "memory").passed is None
    assert check(found, "versions").recorded == "onnxruntime 0.1"
    assert check(verify(copy, latency="0.000001ms"), "latency").passed is False


def test_images_are_found_by_content_whatever_they_are_called(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    for number, file in enumerate(sorted((moved / "dark below").iterdir())):
        file.rename(file.with_name(f"renamed-{number}.png"))
    assert check(verify(fitted.folder, moved), "accuracy").passed


def test_missing_images_are_counted(fitted: Artefact, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "photos", per_class=5)
    message = r"of the 12 images that carry the recorded accuracy are not in .*photos \(compared by"
    with pytest.raises(DataError, match=message):
        verify(fitted.folder, other)


def test_renamed_class_is_named(fitted: Artefact, photos: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    (moved / "dark below").rename(moved / "unheard of")
    with pytest.raises(DataError, match=r"classes the network does not know: \['unheard of'\]"):
        verify(fitted.folder, moved)


def test_image_that_vanishes_meanwhile_is_a_sentence(
    fitted: Artefact, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    found = recorded_images(fitted, moved)
    shutil.rmtree(moved)
    monkeypatch.setattr(module, "recorded_images", lambda *_: found)
    with pytest.raises(DataError, match=r"\.png' could be read when it .* \(No such file"):
        verify(fitted.folder, moved)


def test_bad_arguments_are_answered(fitted: Artefact, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="latency '5' has no unit"):
        verify(fitted.folder, photos, latency="5")
    with pytest.raises(ArtefactError, match="is not a fitted network"):
        verify(tmp_path, photos)


def test_absent_runtime_names_the_extra(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: OnnxRuntime) -> None:
        raise MissingExtraError("install it with: pip install 'pocketvision[openvino]'")

    monkeypatch.setattr(OnnxRuntime, "check", absent)
    with pytest.raises(MissingExtraError, match=r"pocketvision\[openvino\]"):
        verify(fitted.folder)


def test_record_of_a_later_version_is_said(copy: Path) -> None:
    edit(copy / "record.json", schema_version=9)
    with pytest.raises(ArtefactError, match="schema version 9; this pocketvision reads up to 3"):
        Artefact(copy)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_damaged_record_says_where(copy: Path, photos: Path) -> None:
    (copy / "record.json").write_text('{"schema_version": 1}')
    found = verify(copy, photos)
    assert failed(found) == ["seal", "opened"]
    assert "record.json is not a valid Record: created: Field" in check(found, "opened").note
    edit(copy / "run.json", seal={})
    with pytest.raises(ArtefactError, match=r"record\.json is not a valid Record: created: Field"):
        verify(copy, photos)
    (copy / "run.json").unlink()
    with pytest.raises(ArtefactError, match=r"record\.json is not a valid Record: created: Field"):
        verify(copy, photos)
