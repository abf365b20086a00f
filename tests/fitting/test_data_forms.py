"""The main job on few images, on tar shards, and on images that are decoded anew every epoch."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import QUICK, Told, write_photos
from two_processes import SEEDS, difference, train_once

from pocketvision.budget import Budget
from pocketvision.data.images import scan
from pocketvision.data.samples import write_sample
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.forecast import Workload, forecast_sentence
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.verify import verify
from pocketvision.intervals import wilson
from pocketvision.storage import sha256_file

FEW_EPOCHS = replace(QUICK, epochs=3, precisions=("f32",))


def weights(fitted: Artefact) -> str:
    return sha256_file(fitted.folder / "network.safetensors")


def pack(photos: Path, shard: Path) -> Path:
    """The class folders in one tar file; returns its folder."""
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as tar:
        for path in sorted(photos.rglob("*.png"), key=lambda path: path.name):
            tar.add(path, path.relative_to(photos).as_posix())
    return shard.parent


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images a class."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", per_class=20)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def fitted_to_few(few: Path, told: Told, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    out = tmp_path_factory.mktemp("out") / "fitted"
    return run_fit(replace(FEW_EPOCHS, data=str(few)), out, told)


def test_twenty_images_a_class_are_enough_and_no_more_is_claimed(
    fitted_to_few: Artefact, told: Told
) -> None:
    said = " ".join(told.sentences)
    assert "40 images, 2 classes (train 34, val 6)." in said
    assert "Too few images for a test split: figures will be on val, which also selects." in said
    claimed = wilson(6, 6)[0]
    assert (
        f"rest on 6 images of val: even if all are named right, no more than {claimed:.0%}" in said
    )
    record = fitted_to_few.record
    assert record.data.headline_split == "val"
    assert record.headline.n == 6
    assert record.headline.high - record.headline.low > 0.3
    assert "val" in record.verdict.sentence
    page = (fitted_to_few.folder / "report.html").read_text()
    assert "6 images" in page


@pytest.mark.slow
def test_images_that_do_not_fit_the_cache_give_the_same_weights(
    few: Path, fitted_to_few: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE_LIMIT", "1KB")
    told = Told()
    streamed = run_fit(replace(FEW_EPOCHS, data=str(few)), tmp_path / "fitted", told)
    assert weights(streamed) == weights(fitted_to_few)
    said = next(sentence for sentence in told.sentences if sentence.startswith("Will "))
    assert "The decoded images need " in said
    assert "the cache may take 1" in said
    assert "they are decoded anew every epoch." in said


@pytest.mark.slow
def test_shards_give_the_weights_of_class_folders(
    few: Path, fitted_to_few: Artefact, tmp_path: Path
) -> None:
    shards = pack(few, tmp_path / "shards" / "0.tar")
    fitted = run_fit(replace(FEW_EPOCHS, data=str(shards)), tmp_path / "fitted")
    assert weights(fitted) == weights(fitted_to_few)
    assert fitted.state.fingerprint == fitted_to_few.state.fingerprint
    checks = {check.name: check.passed for check in verify(fitted.folder, shards).checks}
    assert checks["accuracy"]
    assert checks["agreement"]


def test_forecast_counts_decoding_in_every_epoch_of_a_stream() -> None:
    stored = Workload(
        stored=1200,
        undecoded=1200,
        train=1000,
        val=100,
        headline=100,
        runtimes=1,
        quantized=1,
        resolution=96,
        batch_size=64,
        fine_tuning=False,
    )
    streamed = replace(stored, streamed="the decoded images need 40 GB, but there are 20")
    assert stored.decode_s > streamed.decode_s == 0
    assert streamed.epoch_s(0.001) - stored.epoch_s(0.001) == pytest.approx(1100 * 0.004)
    said = [
        forecast_sentence(work, planning_s=0.0, unknown=0, side=96, budget=Budget())
        for work in (stored, streamed)
    ]
    assert said[0].endswith("Disk: up to 33.2 MB of pixel cache.")
    assert said[1].endswith(
        "The decoded images need 40 GB, but there are 20: they are decoded anew every epoch."
    )


@pytest.mark.slow
def test_two_processes_learn_as_much_as_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = scan(write_sample("digits", tmp_path / "digits"))
    found = {
        devices: [
            train_once(
                samples, tmp_path / f"{devices}-{seed}", devices=devices, seed=seed, epochs=15
            )
            for seed in SEEDS
        ]
        for devices in (1, 2)
    }
    change, error = difference(found[1], found[2])
    assert sum(t.correct for t in found[1]) > 0.7 * sum(t.n for t in found[1])
    assert abs(change) < 3.3 * error
    assert capfd.readouterr().err == ""  # the other processes are quiet too
