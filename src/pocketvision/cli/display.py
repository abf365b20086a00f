"""What the command line prints: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pocketvision.budget import count_of, format_latency, format_size, format_time

if TYPE_CHECKING:
    from pathlib import Path

    from pocketvision.fitting.artefact import Artefact, Prediction
    from pocketvision.fitting.checks import Verification
    from pocketvision.measure.throughput import Timing
    from pocketvision.progress import Advance
    from pocketvision.record.timing import Conditions, Latency, OnTarget, Throughput

NOTE_WIDTH = 72  # of the remarks in a table: they alone may take several lines

# A name such as ":cat:" stays what it is.
out = Console(soft_wrap=True, emoji=False)
err = Console(stderr=True, soft_wrap=True, emoji=False)


def tell(text: str, console: Console = out, style: str = "") -> None:
    """Print text as it is: brackets in a path or a name are no markup, figures have no colours."""
    console.print(printable(text), style=style, markup=False, highlight=False)


Result = TypeVar("Result")


def carried_out(work: Callable[[TerminalReporter, str], Result]) -> Result:
    """What `work` gives, called with a reporter and the command as typed.

    Ctrl-C leaves a run that goes on; that is said, and the exit code is 130.
    """
    try:
        return work(TerminalReporter(), shlex.join(["pocketvision", *sys.argv[1:]]))
    except KeyboardInterrupt:
        tell("Interrupted. Run the same command again to go on.", err)
        raise typer.Exit(130) from None


class LineProgress:
    """Progress for logs: a line at the start, and then one a minute."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.clock = title, clock
        self.started = self.last = clock()
        tell(f"{title} ...", err)

    def __call__(self, done: int, total: int, note: str) -> None:
        now = self.clock()
        if now - self.last < 60 or done == 0:
            return
        self.last = now
        left = format_time((now - self.started) * (total - done) / done)
        line = f"{self.title}: {done}/{total}, about {left} left"
        tell(f"{line}, {note}" if note else line, err)


class TerminalReporter:
    """Sentences, and bars with the time left; in a pipe, one line for each piece of work."""

    def say(self, sentence: str) -> None:
        tell(sentence, err)

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        if not err.is_terminal:
            yield LineProgress(title)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task(title, total=1, note="")
            yield lambda done, total, note: bar.update(
                task, completed=done, total=max(total, 1), note=note
            )


def print_json(value: object) -> None:
    """One JSON document on standard output; of names that are no UTF-8, JSON has an escape."""
    print(printable(json.dumps(value, ensure_ascii=False, indent=2)))


def print_record(folder: Path) -> None:
    """The record that lies in the folder of a fit, as it is written."""
    from pocketvision.fitting.artefact import RECORD

    print_file(folder / RECORD)


def print_file(path: Path) -> None:
    """A JSON file of ours on standard output."""
    print(path.read_text(encoding="utf-8"))


def printable(text: str) -> str:
    """Names that are no Unicode text could not be printed."""
    return text.encode(errors="backslashreplace").decode()


def table(title: str, *columns: str) -> Table:
    """A plain table; columns that begin with '>' are aligned to the right."""
    grid = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        grid.add_column(column.lstrip(">"), justify="right" if right else "left")
    return grid


def show(grid: Table) -> None:
    """Print a table as wide as it is: a figure cut short would be another figure."""
    unlimited = Console(width=10_000, emoji=False)
    width = Measurement.get(unlimited, unlimited.options, grid).maximum
    Console(width=width, emoji=False).print(grid)


def print_artefact(artefact: Artefact, *, as_json: bool) -> None:
    """What came out: the verdict for people, or the whole record for programs."""
    if as_json:
        print_record(artefact.folder)
    else:
        print_summary(artefact)


def print_summary(artefact: Artefact) -> None:
    """The verdict, and what to do next."""
    from pocketvision.report.text import agreed_share, metric_word

    record, folder = artefact.record, artefact.folder
    score = record.headline
    words: dict[bool | None, str] = {
        True: "[bold green]Budget met.[/]",
        False: "[bold red]Budget missed.[/]",
    }
    word = words.get(record.verdict.met, "[bold]No budget given.[/]")
    out.print(f"{word} {escape(record.verdict.sentence)}", highlight=False)
    shipped = next(c for c in record.verification if c.subject == "shipped")
    for line in (
        f"{metric_word(score.metric):<10} {score.value:.2%} ({score.low:.2%} to "
        f"{score.high:.2%}, n = {score.n})",
        f"Agreement  {shipped.agreement:.2%} with the float network: {agreed_share(score.metric)}",
        *target_lines(record.target),
        f"Latency    {'here ' if record.target else ''}{latency_text(record.latency)}; decoding "
        f"{record.decode_ms:.2g} ms more",
        f"Size       {format_size(record.shipped.size_bytes)}",
        f"Memory     {memory_text(record.peak_bytes)}",
        f"Took       {format_time(artefact.state.spent_s)}",
        f"Report     {folder / 'report.html'}",
        f"Try        python {folder / 'model' / 'run.py'} PHOTO",
    ):
        tell(line)


def target_lines(target: OnTarget | None) -> list[str]:
    """'Target     5.1 ms (4.9 to 5.3) by the table of ..., not measured there'."""
    if target is None:
        return []
    found = target.latency
    return [
        f"Target     {format_latency(found.median_ms)} ({found.low_ms:.3g} to {found.high_ms:.3g}) "
        f"by the table of {target.table}, not measured there"
    ]


def memory_text(peak_bytes: int | None) -> str:
    """'13.1 MB at its peak, beyond an empty session'."""
    if peak_bytes is None:
        return "not measured"
    return f"{format_size(peak_bytes)} at its peak, beyond an empty session"


def latency_text(latency: Latency) -> str:
    """'0.213 ms (0.211 to 0.216), p95 0.25 ms, 1 thread', or why it cannot be said."""
    if latency.noise:
        low, high = format_latency(latency.low_ms), format_latency(latency.high_ms)
        return f"too noisy to say, between {low} and {high}: {latency.noise}"
    return (
        f"{format_latency(latency.median_ms)} ({latency.low_ms:.3g} to {latency.high_ms:.3g}), "
        f"p95 {format_latency(latency.p95_ms)}, {count_of(latency.threads, 'thread')}"
    )


def throughput_text(found: Throughput) -> str:
    """'732 images/s (725 to 741), 8 a run', or why it cannot be said."""
    low, high = f"{found.low:,.4g}", f"{found.high:,.4g}"
    if found.latency.noise:
        return f"too noisy to say, between {low} and {high} images/s: {found.latency.noise}"
    return f"{found.images_per_s:,.4g} images/s ({low} to {high}), {found.latency.batch} a run"


def conditions_text(conditions: Conditions) -> str:
    """'load 0.42, governor performance, steal 0%, other processes 3%, ...'; '?' is not said."""

    def known(value: float | None, form: str) -> str:
        return "?" if value is None else format(value, form)

    pinned = "pinned" if conditions.pinned else "not pinned"
    return (
        f"load {known(conditions.load, '.2f')}, governor {conditions.governor or '?'}, "
        f"steal {known(conditions.steal, '.1%')}, other processes {known(conditions.busy, '.1%')}, "
        f"throttled {known(conditions.throttled, 'd')}, {pinned}"
    )


def print_timing(timing: Timing) -> None:
    """One line a figure; what was not measured is left out."""
    lines = [f"Latency     {latency_text(timing.latency)}"]
    if timing.throughput is not None:
        lines.append(f"Throughput  {throughput_text(timing.throughput)}")
    if timing.decode_ms is not None:
        lines.append(f"Decoding    {timing.decode_ms:.2g} ms an image file, not in the latency")
    if timing.peak_bytes is not None:
        lines.append(f"Memory      {memory_text(timing.peak_bytes)}")
    lines.append(f"Conditions  {conditions_text(timing.conditions)}")
    for line in lines:
        tell(line)


def print_predictions(predictions: dict[str, Prediction], top: int) -> None:
    """One line per image and class."""
    grid = table("", "image", "class", ">probability")
    for path, prediction in predictions.items():
        image = escape(printable(path))
        pairs = zip(prediction.classes[:top], prediction.probabilities[:top], strict=True)
        for number, (name, chance) in enumerate(pairs):
            grid.add_row(image if number == 0 else "", escape(name), f"{chance:.4f}")
    show(grid)


def print_verification(found: Verification) -> None:
    """The table of checks, and the verdict."""
    grid = table("", "check", "result", "recorded", "found", "")
    grid.columns[-1].max_width = NOTE_WIDTH
    words: dict[bool | None, str] = {
        True: "[green]pass[/]",
        False: "[bold red]FAIL[/]",
        None: "info",
    }
    for check in found.checks:
        texts = (escape(t) for t in (check.recorded, check.found, check.note))
        word = "-" if check.name in found.not_checked else words[check.passed]
        grid.add_row(check.name, word, *texts)
    show(grid)
    where = (
        "the recorded machine" if found.same_machine else "another machine than the recorded one"
    )
    left = f"; not checked: {', '.join(found.not_checked)}" if found.not_checked else ""
    tell(f"{'pass' if found.passed else 'FAIL'} (on {where}){left}")
