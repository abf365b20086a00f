"""The lines of the table that `verify` and `reproduce` print, and the checks that photos and scenes
share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pocketvision.budget import count_of, format_latency, format_size
from pocketvision.cpu import VNNI
from pocketvision.measure.device import machine
from pocketvision.record.timing import Conditions, Latency, Machine, OnTarget

LATENCY_TOLERANCE = 1.15  # beyond both intervals, on the same machine
NOT_CHECKED = "not checked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the table; `passed` is None where it only informs, or could not be checked."""

    name: str
    passed: bool | None
    recorded: str
    found: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` or `reproduce` found."""

    checks: tuple[Check, ...]
    same_machine: bool

    @property
    def passed(self) -> bool:
        return all(check.passed is not False for check in self.checks)

    @property
    def not_checked(self) -> tuple[str, ...]:
        """Names of the checks that lacked what they need."""
        return tuple(check.name for check in self.checks if check.found == NOT_CHECKED)


def not_checked(name: str, recorded: str, note: str) -> Check:
    """The line of a check that lacks something; `note` says what."""
    return Check(name=name, passed=None, recorded=recorded, found=NOT_CHECKED, note=note)


def on_recorded_machine(recorded: Machine) -> bool:
    """True where processor, cores and instruction sets are those of the record."""
    here = machine()
    return (here.cpu, here.cores, here.features) == (
        recorded.cpu,
        recorded.cores,
        recorded.features,
    )


def processor_check(recorded: Machine, here: Machine, weight_bits: int) -> Check | None:
    """The line on why INT8 numbers may differ on this processor; None: they need not.

    weight_bits: of the shipped file. On x86 without VNNI, products of uint8 and int8 are summed in
    pairs in 16 bits, and large ones saturate unless weights keep to 7 bits.
    """
    then, now = (not VNNI.isdisjoint(m.features) for m in (recorded, here))
    same_kind = recorded.architecture == here.architecture
    if same_kind and then == now:
        return None
    if not same_kind:
        note = "another architecture rounds in another order: agreement tells by how much"
    elif now:
        note = "with VNNI here, weights of 8 bits would do: quantize again for a finer file"
    elif weight_bits > 7:
        note = (
            "without VNNI, sums of 8-bit products saturate here: if accuracy fails, quantize again "
            "on this processor, which takes weights of 7 bits"
        )
    else:
        note = "weights of 7 bits do not saturate here"
    return Check(
        name="processor",
        passed=None,
        recorded=_integer_support(recorded),
        found=_integer_support(here),
        note=note,
    )


def _integer_support(machine: Machine) -> str:
    found = sorted(VNNI & set(machine.features))
    return f"{machine.architecture}, {' '.join(found) or 'no VNNI'}"


def seal_check(sealed: int, broken: list[str]) -> Check:
    """The line on what lies beside model/: files sealed when the run ended, and those that are
    not as they were."""
    if not sealed:
        return not_checked("seal", "", "the pocketvision that wrote the folder sealed nothing")
    return Check(
        name="seal",
        passed=not broken,
        recorded=count_of(sealed, "file"),
        found="unbroken" if not broken else f"altered or missing: {', '.join(broken)}",
        note="record, network and report, as the run left them",
    )


def figures_check(contradictions: list[str]) -> Check:
    """The line on whether the recorded figures can all be true at once."""
    return Check(
        name="figures",
        passed=not contradictions,
        recorded="",
        found=count_of(len(contradictions), "contradiction")
        if contradictions
        else "no contradiction",
        note="; ".join(contradictions),
    )


def files_check(recorded: int, altered: list[str]) -> Check:
    """The line on hashes: `recorded` files, and the names of those that are not as they were."""
    return Check(
        name="files",
        passed=not altered,
        recorded=count_of(recorded, "file"),
        found="unchanged" if not altered else f"altered, missing or added: {', '.join(altered)}",
    )


def size_check(model: Path, recorded: int) -> Check:
    """The line on the bytes of everything in model/."""
    found = sum(path.stat().st_size for path in model.iterdir())
    more = "" if found == recorded else f" ({found - recorded:+,} bytes)"
    return Check(
        name="size",
        passed=found == recorded,
        recorded=format_size(recorded),
        found=f"{format_size(found)}{more}",
    )


def latency_check(
    recorded: Latency, found: Latency, same_machine: bool, limit_ms: float | None, name: str
) -> Check:
    """The line on a latency.

    A limit decides on any machine: the upper bound must be within it. Without one it fails on the
    recorded machine where the lower bound is more than 15 % beyond the recorded upper one; a noisy
    latency does unless its upper bound is not.
    """
    check = Check(
        name=name, passed=None, recorded=interval(recorded), found=interval(found), note=""
    )
    if limit_ms is not None:
        passed = found.high_ms <= limit_ms
        check = replace(check, passed=passed, note=f"limit {format_latency(limit_ms)}")
    elif same_machine:
        bound = found.high_ms if found.noise else found.low_ms
        note = "fails at more than 15 % beyond both intervals"
        check = replace(check, passed=bound <= LATENCY_TOLERANCE * recorded.high_ms, note=note)
    else:
        note = "another machine: informs only; give --latency to set a limit"
        check = replace(check, note=note)
    if not found.noise:
        return check
    return replace(check, note=f"{check.note}; too noisy to say: {found.noise}")


def target_check(recorded: OnTarget) -> Check:
    """The line on a latency by the table of another device, which none here can confirm."""
    return not_checked(
        "target",
        interval(recorded.latency),
        f"by the table of {recorded.table}, not measured there: run the file on that device",
    )


def versions_check(recorded: dict[str, str]) -> Check:
    """The line on packages: it informs where they are of other versions than recorded."""
    here = machine().versions
    moved = {
        name: f"{name} {here.get(name, 'absent')}"
        for name in sorted(recorded.keys() | here.keys())
        if here.get(name) != recorded.get(name)
    }
    return Check(
        name="versions",
        passed=None,
        recorded=", ".join(f"{name} {recorded.get(name, 'absent')}" for name in moved),
        found=", ".join(moved.values()) or "as recorded",
    )


def conditions_check(recorded: Conditions | None, found: Conditions) -> Check:
    """The line on how quiet the machine was; it informs."""
    return Check(
        name="conditions",
        passed=None,
        recorded="" if recorded is None else _conditions_text(recorded),
        found=_conditions_text(found),
    )


def _conditions_text(conditions: Conditions) -> str:
    """'load 0.4, others busy 2%, steal 0%, governor performance'; what is not known is left out."""
    parts = []
    if conditions.load is not None:
        parts.append(f"load {conditions.load:.1f}")
    if conditions.busy is not None:
        parts.append(f"others busy {conditions.busy:.0%}")
    if conditions.steal is not None:
        parts.append(f"steal {conditions.steal:.0%}")
    if conditions.throttled:
        parts.append(f"throttled {conditions.throttled} times")
    if conditions.governor is not None:
        parts.append(f"governor {conditions.governor}")
    return ", ".join(parts) or "not known"


def interval(latency: Latency) -> str:
    """'5.1 ms (5.0 to 5.2)'."""
    return f"{latency.median_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g})"
