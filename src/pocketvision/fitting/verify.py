"""The release gate: a fitted folder checked again, on this machine, against its own record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pocketvision.budget import count_of, format_size, parse_latency
from pocketvision.errors import (
    ArtefactError,
    ConfigError,
    MissingExtraError,
    PocketvisionError,
)
from pocketvision.fitting.artefact import CANDIDATES, MODEL, Artefact, altered_files, read_state
from pocketvision.fitting.checks import (
    Check,
    Verification,
    conditions_check,
    figures_check,
    files_check,
    latency_check,
    not_checked,
    on_recorded_machine,
    processor_check,
    seal_check,
    size_check,
    target_check,
    versions_check,
)
from pocketvision.fitting.config import RunState
from pocketvision.fitting.consistency import contradictions
from pocketvision.fitting.from_files import run_on_files
from pocketvision.fitting.measuring import shipped_peak_bytes
from pocketvision.fitting.recorded import recorded_images
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.seal import broken_seals
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.device import machine
from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.measure.untrained import noise
from pocketvision.record.files import IntegerWork
from pocketvision.record.scores import Comparison, Score
from pocketvision.runtimes.integers import integer_work
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Runtime, Session

CORRECT_TOLERANCE = 0.005  # of the images: other processors round differently
AGREEMENT_TOLERANCE = 0.01
ROUNDING = 1e-9  # of shares
INTEGER_TOLERANCE = 0.01  # of the multiply-accumulates
MEMORY_TOLERANCE = 1.25  # on the same machine: processes with one file peak up to a fifth apart
MEMORY_SLACK_BYTES = 2_000_000


def verify(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    latency: str | None = None,
    only: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Verification:
    """Re-check a fitted folder on this machine: seal, figures, files, integers, images, speed.

    data: where the images are; those of the recorded split are found in it by content, others are
    left alone; None: what needs images is not checked, and the table says so. On another machine
    than the recorded one latency and memory only inform, unless `latency` gives a limit. only:
    where the clean list lies now, if the fit had one; None: where it lay.

    Raises: ArtefactError: no fitted folder. DataError: recorded images are missing from `data`.
    MissingExtraError: its runtime is not installed.
    """
    limit_ms = parse_latency(latency) if latency is not None else None
    folder = Path(folder)
    try:
        artefact = Artefact(folder)
    except ArtefactError as error:
        return _unreadable(folder, error)
    return _Gate(artefact, reporter or Silent(), only).run(data, limit_ms)


def _unreadable(folder: Path, error: ArtefactError) -> Verification:
    """What a folder fails with that was sealed and cannot be opened any more.

    Raises: ArtefactError: it was never sealed, or what cannot be read is not sealed.
    """
    try:
        seal = read_state(folder).seal
    except ArtefactError:
        raise error from None
    broken = broken_seals(folder, seal)
    if not broken:
        raise error
    checks = (seal_check(len(seal), broken), _not_opened(error))
    return Verification(checks=checks, same_machine=False)


def _not_opened(error: PocketvisionError) -> Check:
    return Check(name="opened", passed=False, recorded="", found="no", note=str(error))


class _Gate:
    """The checks of one fitted folder, in the order of the table."""

    def __init__(self, artefact: Artefact, reporter: Reporter, only: str | Path | None) -> None:
        self.artefact = artefact
        self.reporter = reporter
        self.only = only
        self.record = artefact.record
        self.shipped = artefact.shipped
        self.state: RunState = artefact.state
        self.same_machine = on_recorded_machine(self.record.machine)

    def run(self, data: str | Path | None, limit_ms: float | None) -> Verification:
        """All checks; those that run the model are left out where its files are not as recorded."""
        checks = list(self._files())
        try:
            for check in self._of_the_model(data, limit_ms):
                checks.append(check)  # what was found before an error stays
        except (ArtefactError, ConfigError, MissingExtraError) as error:
            if all(check.passed is not False for check in checks):
                raise
            checks.append(_not_opened(error))  # a record that was edited names no such model
        checks.append(versions_check(self.record.machine.versions))
        return Verification(checks=tuple(checks), same_machine=self.same_machine)

    @property
    def runtime(self) -> Runtime:
        return get_runtime(self.shipped.runtime)

    def _of_the_model(self, data: str | Path | None, limit_ms: float | None) -> Iterator[Check]:
        self.runtime.check()
        altered = self.artefact.altered_files()
        files = {file.name for file in self.runtime.files(self.artefact.model_file)}
        if files & set(altered):  # nothing is known about another model
            return
        yield self._integers()
        quantization = self.record.quantization
        if self.shipped.precision == "int8":
            bits = 8 if quantization is None else quantization.weight_bits
            processor = processor_check(self.record.machine, machine(), bits)
            if processor is not None:
                yield processor
        yield from self._accuracy(data)
        yield from self._speed(limit_ms)

    def _files(self) -> Iterator[Check]:
        folder, seal = self.artefact.folder, self.state.seal
        yield seal_check(len(seal), broken_seals(folder, seal))
        yield figures_check(contradictions(self.artefact, self.state))
        yield files_check(len(self.shipped.files), self.artefact.altered_files())
        if (folder / MODEL).is_dir():
            yield size_check(folder / MODEL, self.shipped.size_bytes)

    def _integers(self) -> Check:
        recorded, shipped = self.shipped.integers, self.shipped
        file = self.artefact.model_file
        found = integer_work(file, shipped.runtime, shipped.precision, shipped.threads)
        return Check(
            name="integers",
            passed=None if recorded is None else found.share >= recorded.share - INTEGER_TOLERANCE,
            recorded="" if recorded is None else _integers_text(recorded),
            found=_integers_text(found),
            note="of the multiply-accumulates, as the runtime executes the shipped file",
        )

    def _accuracy(self, data: str | Path | None) -> Iterator[Check]:
        """Float network, exported float file and shipped file on the recorded images."""
        recorded = next((c for c in self.record.verification if c.subject == "shipped"), None)
        if recorded is None:  # the figures have failed for it
            return
        if data is None:
            why = "needs the images: verify FOLDER IMAGES"
            yield not_checked("accuracy", _accuracy_text(recorded.accuracy), why)
            yield not_checked("float accuracy", _accuracy_text(recorded.reference_accuracy), why)
            yield not_checked("agreement", f"{recorded.agreement:.2%}", why)
            return
        found = self._compare(data)
        shipped = found["shipped"]
        yield _accuracy_check("accuracy", recorded.accuracy, shipped.accuracy)
        yield _accuracy_check(
            "float accuracy", recorded.reference_accuracy, shipped.reference_accuracy
        )
        yield _agreement_check("agreement", recorded, shipped)
        for compared in self.record.verification:
            if compared.subject in found and compared.subject != "shipped":
                yield _agreement_check("export", compared, found[compared.subject])

    def _compare(self, data: str | Path) -> dict[str, Comparison]:
        artefact = self.artefact
        images, rows, judge = recorded_images(artefact, Path(data), self.only)
        sessions = {"shipped": artefact.session(), **self._exported()}
        files = run_on_files(
            images,
            rows,
            artefact.preprocessing,
            artefact.network,
            sessions,
            self.reporter,
        )
        return {
            name: judge.compare(
                files.answers[name],
                files.answers["float"],
                subject=name,
                reference_name="float network",
                split=self.record.data.headline_split,
            )
            for name in sessions
        }

    def _exported(self) -> dict[str, Session]:
        """The float file that the shipped one was made from, if candidates/ still holds it."""
        for file in self.state.files:
            path = self.artefact.folder / CANDIDATES / file.path
            wanted = (file.runtime, file.precision) == (self.shipped.runtime, "f32")
            if wanted and self.shipped.precision != "f32" and path.is_file():
                if set(altered_files(path.parent, file.hashes)) & file.hashes.keys():
                    return {}  # another file than the one that was compared
                session = self.runtime.session(path, file.precision, self.shipped.threads)
                return {f"f32 on {file.runtime}": session}
        return {}

    def _speed(self, limit_ms: float | None) -> Iterator[Check]:
        threads = self.shipped.threads
        pixels = noise(1, self.artefact.network.spec)
        with watch_conditions(threads) as conditions:
            timed = {"shipped": partial(self.artefact.session().run, pixels)}
            found = measure_latency(timed, FINAL, threads)["shipped"]
        found = judged(found, conditions[0])
        yield latency_check(self.record.latency, found, self.same_machine, limit_ms, "latency")
        if self.record.target is not None:
            yield target_check(self.record.target)
        recorded = self.record.peak_bytes
        if recorded is not None:
            yield self._memory(recorded)
        yield conditions_check(self.record.conditions, conditions[0])

    def _memory(self, recorded: int) -> Check:
        found = shipped_peak_bytes(self.artefact)
        if found is None:
            return not_checked("memory", format_size(recorded), "this system does not tell")
        limit = max(MEMORY_TOLERANCE * recorded, recorded + MEMORY_SLACK_BYTES)
        elsewhere = "another machine: informs only"
        return Check(
            name="memory",
            passed=found <= limit if self.same_machine else None,
            recorded=format_size(recorded),
            found=format_size(found),
            note="fails at more than a quarter and 2 MB above" if self.same_machine else elsewhere,
        )


def _accuracy_check(name: str, recorded: Score, found: Score) -> Check:
    allowed = max(1, round(CORRECT_TOLERANCE * recorded.n))
    lost = recorded.value - found.value
    points = f"{100 * allowed / recorded.n:.2g} points"
    images = count_of(allowed, "image")
    return Check(
        name=name,
        passed=found.n == recorded.n and lost <= allowed / recorded.n + ROUNDING,
        recorded=_accuracy_text(recorded),
        found=_accuracy_text(found),
        note=f"fails at more than {points if recorded.correct is None else images} below",
    )


def _agreement_check(name: str, recorded: Comparison, found: Comparison) -> Check:
    return Check(
        name=name,
        passed=found.agreement >= recorded.agreement - AGREEMENT_TOLERANCE,
        recorded=f"{recorded.agreement:.2%}",
        found=f"{found.agreement:.2%}",
        note=f"{recorded.subject} with the float network, image by image",
    )


def _accuracy_text(found: Score) -> str:
    if found.correct is None:
        return f"{found.metric} {found.value:.2%} ({found.n} images)"
    return f"{found.value:.2%} ({found.correct} of {found.n})"


def _integers_text(work: IntegerWork) -> str:
    return f"{work.share:.1%} ({work.layers} of {work.of} layers)"
