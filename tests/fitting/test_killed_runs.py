"""A run that is killed at any moment goes on, and comes to the result of one that was not."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mortal import Killed, Reaper
from quick import export_quickly
from small_runs import QUICK, Told, write_photos

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting import gating, making, ship, start, training, variants
from pocketvision.fitting.artefact import RUN, Artefact, load, read_state
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.pipeline import run_fit
from pocketvision.models.arch import Network
from pocketvision.record.timing import Latency
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard
from pocketvision.storage import to_json, write_atomic
from pocketvision.train.devices import as_run_here
from pocketvision.train.trainer import TrainResult

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = replace(QUICK, epochs=2, batch_size=8)
MOST_LIVES = 200


def names_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class Counted:
    """Stands for what is slow or hangs on a clock, and counts what is measured."""

    def __init__(self, folder: Path) -> None:
        self.exported = folder / "exported.onnx"
        self.measured: Counter[str] = Counter()

    def export(self, network: Network, path: Path, card: FileCard) -> None:
        """The same network gives the same file, so it is exported once."""
        if not self.exported.exists():
            export_quickly(network, self.exported, card)
        write_atomic(path, self.exported.read_bytes())

    def latencies(
        self, sessions: Mapping[str, Callable[[], object]], *_: object, **__: object
    ) -> dict[str, Latency]:
        self.measured.update(list(sessions))
        return {
            name: Latency(
                median_ms=1.0 + n,
                p95_ms=2.0 + n,
                low_ms=0.9 + n,
                high_ms=1.1 + n,
                runs=9,
                threads=1,
            )
            for n, name in enumerate(sorted(sessions))
        }


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    stand_in = Counted(tmp_path)
    monkeypatch.setattr(making, "export_onnx", stand_in.export)
    monkeypatch.setattr(variants, "measure_latency", stand_in.latencies)
    monkeypatch.setattr(variants, "can_measure_memory", lambda: False)
    monkeypatch.setattr(ship, "shipped_throughput", lambda *_: None)
    return stand_in


def test_run_killed_at_every_change_of_the_disk_comes_to_the_same_result(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", per_class=12)
    config = replace(SMALL, data=str(photos))
    whole = run_fit(config, tmp_path / "whole")
    counted.measured.clear()
    place = tmp_path / "mortal"
    place.mkdir()
    out = place / "out"
    # Its own pixels, so that it dies while it writes them; but the plan's figures are there.
    cache = place / "cache"
    monkeypatch.setenv("POCKETVISION_CACHE", str(cache))
    reaper, told = Reaper(place, out), Told()
    for _ in range(MOST_LIVES):
        reaper.live()
        try:
            run_fit(config, out, told)
        except Killed:
            pass
        finally:
            reaper.rest()
        if (out / RUN).exists() and read_state(out).status == "done":
            break
    else:
        pytest.fail(f"It never ended: {reaper.killed_at}")
    assert_same(load(out), whole)
    assert len(reaper.killed_at) >= 30
    # The killing that follows a measurement loses it; nothing else does.
    assert max(counted.measured.values()) <= 2


def assert_same(artefact: Artefact, whole: Artefact) -> None:
    """All but what a clock says."""
    weights = [(a.folder / "network.safetensors").read_bytes() for a in (artefact, whole)]
    assert weights[0] == weights[1]
    assert artefact.record.shipped == whole.record.shipped
    assert artefact.record.confusion == whole.record.confusion
    assert artefact.record.verification == whole.record.verification
    assert artefact.record.alarms == whole.record.alarms
    assert artefact.record.train_score == whole.record.train_score
    assert names_of(artefact.folder) == names_of(whole.folder)
    states = [artefact.state, whole.state]
    assert states[0].train == states[1].train
    assert states[0].ranking == states[1].ranking
    assert [s.name for s in states[0].steps] == [s.name for s in states[1].steps]
    curves = [[replace(e, seconds=0) for e in a.record.epochs] for a in (artefact, whole)]
    assert curves[0] == curves[1]


def die(*_: object) -> None:
    raise Killed


def die_in_training(*_: object, **__: object) -> TrainResult:
    raise Killed


def died_when_all_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[FitConfig, Path]:
    """A run that was killed between the last measurement and the choice, and its folder."""
    photos = write_photos(tmp_path / "photos", per_class=12)
    config, out = replace(SMALL, data=str(photos), epochs=1), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(variants, "_built", die)
        with pytest.raises(Killed):
            run_fit(config, out)
    return config, out


def test_what_was_measured_before_the_death_is_not_measured_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = died_when_all_was_measured(tmp_path, monkeypatch)
    files = read_state(out).files
    assert all(file.comparison and file.latency for file in files)
    with monkeypatch.context() as patch:
        patch.setattr(variants, "measure_latency", die)
        patch.setattr(gating, "network_answers", die)
        for name in ("build_files", "export_onnx"):
            patch.setattr(making, name, die)
        artefact = run_fit(config, out)
    assert tuple(v.latency for v in artefact.record.variants) == tuple(f.latency for f in files)


def test_file_altered_while_the_run_was_dead_is_made_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = died_when_all_was_measured(tmp_path, monkeypatch)
    file = out / "candidates" / read_state(out).files[0].path
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run_fit(config, out)
    assert file.read_bytes() == content
    assert counted.measured == Counter({f"{p} on onnxruntime": 2 for p in ("f32", "int8")}), (
        "figures of a file go with it"
    )


def test_run_goes_on_with_the_threads_and_runtimes_it_began_with(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another OMP_NUM_THREADS, or a runtime that was installed since, would be another run."""
    photos = write_photos(tmp_path / "photos", per_class=12)
    config, out = replace(SMALL, data=str(photos), epochs=1, runtimes=()), tmp_path / "out"
    monkeypatch.setattr(start, "installed_runtimes", lambda: [get_runtime("onnxruntime")])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", die_in_training)
        with pytest.raises(Killed):
            run_fit(config, out)
    frozen = read_state(out).train
    assert frozen is not None
    assert (frozen.threads, frozen.accelerator) == (2, as_run_here(frozen).accelerator)
    monkeypatch.setattr(start, "installed_runtimes", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    artefact = run_fit(config, out)
    assert artefact.state.train == frozen
    assert artefact.state.runtimes == ("onnxruntime",)


def test_training_begun_on_a_device_that_is_gone_says_so(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", per_class=12)
    config, out = replace(SMALL, data=str(photos), epochs=1), tmp_path / "out"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", die_in_training)
        with pytest.raises(Killed):
            run_fit(config, out)
    state = read_state(out)
    assert state.train is not None
    train = replace(state.train, accelerator="cuda")
    write_atomic(out / RUN, to_json(replace(state, train=train)))
    message = r"out began on 1 x cuda and would come out otherwise on another device; go on where"
    with pytest.raises(ConfigError, match=message):
        run_fit(config, out)


@pytest.mark.parametrize(
    "name",
    [
        "model/model.onnx",
        pytest.param("model/run.py", marks=pytest.mark.slow),
        pytest.param("record.json", marks=pytest.mark.slow),
    ],
)
def test_file_spoilt_behind_the_last_figure_is_made_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    photos = write_photos(tmp_path / "photos", per_class=12)
    config, out = replace(SMALL, data=str(photos), epochs=1), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ship, "render_report", die)
        with pytest.raises(Killed):
            run_fit(config, out)
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[: len(content) // 2])
    artefact = run_fit(config, out)
    assert artefact.altered_files() == []
    if name != "record.json":
        assert (out / name).read_bytes() == content


def test_damaged_checkpoint_is_said_and_the_training_begins_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", per_class=12)
    config, out = replace(SMALL, data=str(photos)), tmp_path / "out"
    whole = run_fit(config, tmp_path / "whole")

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pocketvision.fitting.training.save_network", die)
        with pytest.raises(Killed):
            run_fit(config, out)
    checkpoint = out / "training" / "last.ckpt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    told = Told()
    assert_same(run_fit(config, out, told), whole)
    assert f"{checkpoint} is damaged; the training begins again." in told.sentences


def test_checkpoint_that_needs_unpickling_is_refused_until_it_is_removed(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", per_class=12)
    config, out = replace(SMALL, data=str(photos)), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_network", die_in_training)
        with pytest.raises(Killed):
            run_fit(config, out)
    checkpoint = out / "training" / "last.ckpt"
    torch.save({"state_dict": Path("anything")}, checkpoint)
    message = r"last\.ckpt holds more than tensors .*, so it is not opened; remove it to begin"
    with pytest.raises(ArtefactError, match=message) as caught:
        run_fit(config, out)
    assert caught.value.exit_code == 2
    checkpoint.unlink()
    assert run_fit(config, out).state.status == "done"


@pytest.mark.slow
@pytest.mark.parametrize(("script", "kills"), [("kill_runs.py", 20), ("kill_searches.py", 10)])
def test_work_killed_at_random_moments_of_every_phase_comes_to_the_same(
    script: str, kills: int
) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), "--kills", str(kills)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} of {kills} came to the same result." in done.stdout
