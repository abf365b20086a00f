"""Replay the recipe of a fitted folder, and hold what comes out against what it recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from pocketvision.budget import Budget, format_size
from pocketvision.errors import ArtefactError, DataError
from pocketvision.fitting.artefact import MODEL, RUN, Artefact, read_state
from pocketvision.fitting.checks import (
    Check,
    Verification,
    latency_check,
    on_recorded_machine,
    versions_check,
)
from pocketvision.fitting.config import FitConfig, RunState
from pocketvision.fitting.folder import make_folder, taken
from pocketvision.fitting.from_files import run_on_files
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.recorded import recorded_images
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.seal import broken_seals
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.measure.device import machine
from pocketvision.models.pretrained import is_published
from pocketvision.record.run import Epoch, Step
from pocketvision.record.words import Metric
from pocketvision.report.text import agreed_share
from pocketvision.storage import to_json
from pocketvision.train.alarms import DIVERGED

# Of top-1: two trainings with other bits differ as two seeds do, and the interval of one comparison
# knows of the images alone.
TRAINING_NOISE = 0.01


def reproduce(
    folder: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    only: str | Path | None = None,
    weights: str | None = None,
    command: str = "",
    reporter: Reporter | None = None,
) -> Verification:
    """Train, export and measure again what `folder` records, into `out`, and compare.

    Network, epochs, seeds and the kind of file are the recorded ones; nothing is chosen anew, and
    no budget is kept. data, only, weights: where the images, the clean list and the weights lie
    now, as far as the run had them; None: where they lay. An interrupted replay goes on when it is
    called again.

    Raises: ArtefactError: no fitted folder, one that is not as its run left it, or a training that
    cannot be replayed. DataError: other images than the recorded ones. ConfigError: `out` holds
    something else. MissingExtraError: its runtime is not installed. GateError: the network or its
    file fails.
    """
    reporter = reporter or Silent()
    first, out = Artefact(folder), Path(out)
    _refuse_altered(first)
    config = first.state.config
    config = replace(
        config,
        data=config.data if data is None else str(data),
        only=config.only if only is None else str(only),
        weights=config.weights if weights is None else weights,
    )
    plan = _plan(first, config, command or f"pocketvision.reproduce({str(folder)!r}, {str(out)!r})")
    with working_in(out, reporter.say):
        _begin(plan, out, first.folder)
    again = run_fit(plan.config, out, reporter, command=plan.command)
    same = on_recorded_machine(first.record.machine)
    return Verification(checks=tuple(_checks(first, again, config, reporter)), same_machine=same)


def _refuse_altered(first: Artefact) -> None:
    """Raises: ArtefactError: the record, or what would be run beside the replay, was changed."""
    altered = broken_seals(first.folder, first.state.seal)
    altered += [f"{MODEL}/{name}" for name in first.altered_files()]
    if altered:
        raise ArtefactError(
            f"{first.folder} is not as its run left it (altered, missing or added: "
            f"{', '.join(altered)}), and a replay would be held against something else; see "
            f"`pocketvision verify {first.folder}`."
        )


def _plan(first: Artefact, asked: FitConfig, command: str) -> RunState:
    """The state of a run that has all of the recorded plan before it, and nothing done.

    asked: what the recorded run was asked for, its files where they lie now.
    Raises: ArtefactError: the training cannot be replayed.
    """
    earlier, shipped = first.state, first.shipped
    config = replace(
        asked,
        budget=Budget(),
        target=None,
        runtimes=(shipped.runtime,),
        precisions=(shipped.precision,),
        threads=shipped.threads,
        devices=asked.devices * asked.nodes,  # all of this machine; the weights are the same
        nodes=1,
    )
    train = earlier.train
    if train is None:
        raise ArtefactError(f"{first.folder / RUN} names no training; it cannot be replayed.")
    if has_diverged(earlier):
        raise ArtefactError(
            f"The training of {first.folder} diverged and went on at a lower learning rate, which "
            "is not replayed. Run its command again with another --out: "
            f"{earlier.command}"
        )
    if earlier.config.accelerator == "auto" and not torch.cuda.is_available():
        train = replace(train, accelerator="cpu")  # it informs that the weights are others
    if was_moved(first):
        train = replace(train, epochs=max(1, len(first.record.epochs)))
    # Threads are those of a node, shared by its devices.
    train = replace(train, devices=config.devices, nodes=1, threads=train.threads * asked.nodes)
    return RunState(
        status="unfinished",
        config=config,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=machine().versions,
        fingerprint=earlier.fingerprint,
        headline_hashes=earlier.headline_hashes,
        tried=() if earlier.config.target else earlier.tried,  # by a table that is not read again
        ranking=(earlier.ranking[earlier.attempt],),
        train=train,
        steps=(Step(name="plan", seconds=0.0, note=f"taken from {first.folder.name}"),),
        start=earlier.start,
        findings=earlier.findings,
    )


def has_diverged(state: RunState) -> bool:
    """True if the training went back once, to a lower learning rate."""
    return any(alarm.code == DIVERGED for alarm in state.alarms)


def was_moved(artefact: Artefact) -> bool:
    """True if the time asked for ended the recorded training at another epoch than planned."""
    train = artefact.state.train
    return train is not None and len(artefact.record.epochs) != train.epochs


def _begin(plan: RunState, out: Path, folder: Path) -> None:
    """Make the output folder with the plan in it, unless it holds this replay unfinished.

    Raises: DataError, ConfigError: as `reproduce`.
    """
    if out.exists():
        try:
            there = read_state(out)
        except ArtefactError:
            raise taken(out, None) from None
        planned = plan.train
        if planned and there.train and has_diverged(there):  # the replay itself, so far
            planned = replace(planned, learning_rate=there.train.learning_rate)
        if (there.status, there.ranking, there.train) != ("unfinished", plan.ranking, planned):
            raise taken(out, there.status)
        return
    config, images = plan.config, plan.config.data
    _refuse_absent(config)
    found = TASKS[config.task].scan(config, lambda done, total: None)
    if found.fingerprint != plan.fingerprint:
        raise DataError(
            f"{images} does not hold the images that {folder} was fitted to (compared by content, "
            "classes and splits); a replay on others would be another experiment."
        )
    make_folder(out, RUN, to_json(plan))


def _refuse_absent(config: FitConfig) -> None:
    """Raises: DataError: a file that the recorded run was given is not where it lay."""
    weights = config.weights
    if weights is not None and (is_published(weights) or "://" in weights):
        weights = None  # to be downloaded
    for what, option, place in (
        ("images", "data", config.data),
        ("clean list", "only", config.only),
        ("weights", "weights", weights),
    ):
        if place is not None and not Path(place).exists():
            raise DataError(
                f"The {what} lay in {place}, which is not there; say where with --{option}."
            )


def _checks(
    first: Artefact, again: Artefact, config: FitConfig, reporter: Reporter
) -> Iterator[Check]:
    yield _weights_check(first, again)
    yield _curves_check(first.record.epochs, again.record.epochs, first.record.headline.metric)
    yield _accuracy_check(first, again, config, reporter)
    yield _file_check(first, again)
    same = on_recorded_machine(first.record.machine)
    yield latency_check(first.record.latency, again.record.latency, same, None, "latency")
    yield versions_check(first.record.machine.versions)


def _weights_check(first: Artefact, again: Artefact) -> Check:
    recorded, found = first.network.state_dict(), again.network.state_dict()
    moved = [name for name in recorded if not torch.equal(recorded[name], found[name])]
    check = Check(
        name="weights",
        passed=True,
        recorded=f"{len(recorded)} tensors",
        found="equal, bit for bit",
    )
    if not moved:
        return check
    largest = max(float((recorded[n].double() - found[n].double()).abs().max()) for n in moved)
    note = (
        "the time moved the end of the recorded training"
        if was_moved(first)
        else "other processors, versions and numbers of threads give other bits"
    )
    difference = f"{len(moved)} differ, by up to {largest:.2g}"
    return replace(check, passed=None, found=difference, note=note)


def _curves_check(recorded: tuple[Epoch, ...], found: tuple[Epoch, ...], metric: Metric) -> Check:
    """The learning curves, seconds aside; they inform."""
    pairs = zip(recorded, found, strict=False)
    moved = [a.epoch for a, b in pairs if replace(a, seconds=0.0) != replace(b, seconds=0.0)]
    same = "equal" if len(recorded) == len(found) else f"{len(found)} epochs, equal so far"
    return Check(
        name="curves",
        passed=None,
        recorded=_last(recorded, metric),
        found=f"{_last(found, metric)}, {f'differ from epoch {moved[0]} on' if moved else same}",
    )


def _last(epochs: tuple[Epoch, ...], metric: Metric) -> str:
    if not epochs:
        return "none"
    return f"val {metric} {epochs[-1].val_score:.2%} after {len(epochs)} epochs"


def _accuracy_check(
    first: Artefact, again: Artefact, config: FitConfig, reporter: Reporter
) -> Check:
    """Both shipped files on the recorded images, in pairs."""
    files, rows, judge = recorded_images(first, Path(config.data), config.only)
    sessions = {"recorded": first.session(), "again": again.session()}
    run = run_on_files(files, rows, first.preprocessing, again.network, sessions, reporter)
    found = judge.compare(
        run.answers["again"],
        run.answers["recorded"],
        subject="again",
        reference_name="recorded",
        split=first.record.data.headline_split,
    )
    return Check(
        name="accuracy",
        passed=found.drop_low <= TRAINING_NOISE and found.drop_high >= -TRAINING_NOISE,
        recorded=f"{found.reference_accuracy.value:.2%} (n = {found.accuracy.n})",
        found=f"{found.accuracy.value:.2%}, {_points(found.drop)} points "
        f"({_points(found.drop_high)} to {_points(found.drop_low)})",
        note=f"agreement {found.agreement:.1%}, {agreed_share(found.accuracy.metric)}; fails where "
        f"the interval of the difference lies beyond {100 * TRAINING_NOISE:g} point",
    )


def _points(drop: float) -> str:
    """What a drop is as a gain, in points: '+0.25'."""
    return f"{100 * (0 - drop):+.2f}"


def _file_check(first: Artefact, again: Artefact) -> Check:
    equal = first.shipped.files == again.shipped.files
    return Check(
        name="file",
        passed=True if equal else None,
        recorded=format_size(first.shipped.size_bytes),
        found="equal, byte for byte" if equal else format_size(again.shipped.size_bytes),
        note="everything in model/",
    )
