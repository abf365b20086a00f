"""The path of a narrowing: step by step faster, and what every step had to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.budget import count_of, format_latency
from pocketvision.record.searched import Narrowing, NarrowingProposal, NarrowingStep
from pocketvision.report.chart import Chart, Key, Plane, both, svg
from pocketvision.report.frontier import (
    MOST_MARKS,
    ROOM_FOR_A_NAME,
    Point,
    is_drawable,
    latency_plane,
    limit_line,
    named,
    ringed,
)
from pocketvision.report.search_rows import NarrowingRow, expected_word, narrowing_rows
from pocketvision.report.text import milliseconds, percent


def narrowing_chart(found: Narrowing | None) -> Chart | None:
    """What to expect against latency, from the seed to the end; None without a narrowing."""
    if found is None:
        return None
    rows = [row for row in narrowing_rows(found) if is_drawable(_point(row.step))]
    if not rows:
        return None
    wide, narrow = both(lambda width, height: _draw(found, rows, width, height))
    return Chart(
        id="narrowing",
        title="From the seed to the target",
        how_to_read=(
            "Up is better, left is faster; the line goes step by step from the seed to the "
            "ringed end. A small mark is a proposal: one width made narrower. The shaded side is "
            "over the target. A step is measured and a proposal is summed up from a table, so a "
            "step need not lie on the proposal that it took."
        ),
        alt=_alt(found),
        wide=wide,
        narrow=narrow,
        keys=(
            Key(shape="line", style="path", words="steps"),
            Key(shape="circle", style="proposal", words="proposals"),
            Key(shape="ring", style="ring", words="end"),
        ),
    )


def _draw(found: Narrowing, rows: Sequence[NarrowingRow], width: int, height: int) -> Markup:
    path = [_point(row.step) for row in rows]
    proposals = [(row.number, one) for row in rows for one in row.step.proposals]
    proposals = [(number, one) for number, one in proposals if is_drawable(_point(one))]
    points = [*path, *(_point(one) for _, one in proposals)]
    words = "latency", f"{expected_word(found)} to expect, %"
    plane = latency_plane(width, height, points, found.target_ms, *words)
    small, large = (3.0, 5.5) if width >= ROOM_FOR_A_NAME else (2.2, 4.0)
    return svg(
        width,
        height,
        plane.axes(),
        *limit_line(plane, found.target_ms, "target"),
        _proposals(plane, proposals, small),
        plane.line(path, "path"),
        *(_step(plane, row, found.seed, large) for row in rows),
        ringed(plane, path[-1], large),
        named(plane, path[0], large, "seed"),
    )


def _point(one: NarrowingProposal | NarrowingStep) -> Point:
    return one.latency_ms, 100 * one.accuracy


def _proposals(
    plane: Plane, proposals: Sequence[tuple[int, NarrowingProposal]], radius: float
) -> Markup:
    """A mark for each that says itself; one path of dots where that would be too many."""
    if len(proposals) > MOST_MARKS:
        return plane.dots([_point(one) for _, one in proposals], "proposals")
    return Markup("").join(
        plane.mark("circle", *_point(one), radius, "proposal", _proposal_tip(number, one))
        for number, one in proposals
    )


def _step(plane: Plane, row: NarrowingRow, seed: str, radius: float) -> Markup:
    return plane.mark("circle", *_point(row.step), radius, "fits", _step_tip(row, seed))


def _proposal_tip(number: int, one: NarrowingProposal) -> str:
    return (
        f"{one.group} made {one.width:,} wide\nproposed in step {number}\n"
        f"{percent(one.accuracy)} to expect\n{milliseconds(one.latency_ms)} by table"
    )


def _step_tip(row: NarrowingRow, seed: str) -> str:
    width = f" made {row.taken.width:,} wide" if row.taken else ""
    what = f"step {row.number}: {row.step.chosen}{width}" if row.number else f"seed: {seed}"
    return (
        f"{what}\n{percent(row.step.accuracy)} to expect\n"
        f"{milliseconds(row.step.latency_ms)} measured"
    )


def _alt(found: Narrowing) -> str:
    first, last, count = found.steps[0], found.steps[-1], len(found.steps) - 1
    proposals = sum(len(step.proposals) for step in found.steps)
    return (
        f"Line plot of {expected_word(found)} to expect against latency over "
        f"{count_of(count, 'step')} from {found.seed}: from {percent(first.accuracy)} at "
        f"{milliseconds(first.latency_ms)} to {percent(last.accuracy)} at "
        f"{milliseconds(last.latency_ms)}, with a target of "
        f"{format_latency(found.target_ms)} and {count_of(proposals, 'proposal')} as small marks. "
        "The table below has all steps."
    )
