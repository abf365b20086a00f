"""Print as Markdown what finished runs were given, were planned to take, and took.

python scripts/kept_times.py fitted/ searched/ smaller/
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pocketvision.budget import format_time
from pocketvision.fitting.artefact import RECORD
from pocketvision.record.run import Record
from pocketvision.searching.search_config import SearchState
from pocketvision.searching.search_run import SEARCHING
from pocketvision.searching.search_run import STATE as SEARCH_STATE
from pocketvision.storage import from_json

LATE = 1.1  # of the time given; above, a limit was not kept


def main() -> None:
    """Read the arguments and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    print("\n".join(lines(parser.parse_args().runs)))


def lines(runs: Sequence[Path]) -> list[str]:
    """The page, line by line."""
    records = {run: from_json(Record, (run / RECORD).read_bytes(), source=str(run)) for run in runs}
    machine = next(iter(records.values())).machine
    limits = [limit for run, record in records.items() if (limit := limit_line(run, record))]
    return [
        "| run | given | took | of it |",
        "|---|---:|---:|---:|",
        *limits,
        "",
        "| run | step | planned | took | of it |",
        "|---|---|---:|---:|---:|",
        *(line for run, record in records.items() for line in step_lines(run, record)),
        "",
        f"{machine.cpu}, {machine.cores} cores, {machine.system}.",
    ]


def limit_line(run: Path, record: Record) -> str:
    """One row: a whole command; empty where it had no limit."""
    given_s, took_s = whole(run, record)
    if given_s is None:
        return ""
    late = " (late)" if took_s > LATE * given_s else ""
    return f"| {run} | {spans(given_s, took_s)}{late} |"


def whole(run: Path, record: Record) -> tuple[float | None, float]:
    """Seconds given to a command and taken by it; a record's are of all of a narrowing."""
    searching = run / SEARCHING / SEARCH_STATE
    if searching.exists():
        search = from_json(SearchState, searching.read_bytes(), source=str(searching))
        return search.config.budget.time_s, record.spent_s
    return record.budget.time_s, record.spent_s


def step_lines(run: Path, record: Record) -> list[str]:
    """A row for every step that had a plan."""
    return [
        f"| {run} | {step.name} | {spans(step.forecast_s, step.seconds)} |"
        for step in record.steps
        if step.forecast_s is not None
    ]


def spans(planned_s: float, took_s: float) -> str:
    """Three cells."""
    return f"{format_time(planned_s)} | {format_time(took_s)} | {took_s / planned_s:.0%}"


if __name__ == "__main__":
    main()
