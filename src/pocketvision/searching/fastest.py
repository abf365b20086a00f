"""In which runtime and precision a network is fastest on this machine."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from pocketvision.errors import ConfigError
from pocketvision.fitting.plan import chosen_precisions
from pocketvision.measure.latency import PLANNING, measure_latency
from pocketvision.measure.untrained import build_files, noise, write_untrained
from pocketvision.models.networks import AnySpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.runtimes.runtime import Runtime
from pocketvision.searching.scaled_table import ScaledTable

Offers = list[tuple[Runtime, Precision]]


def fastest_file(
    spec: AnySpec, runtime: str | None, precision: Precision | None, threads: int
) -> tuple[str, Precision, Latency]:
    """Runtime and precision of the fastest of the untrained files, and how fast it is by its table.

    runtime, precision: None: all that are installed, and all they offer.

    Raises: ConfigError: a precision that none of them offers.
    """
    runtimes = [get_runtime(runtime)] if runtime else installed_runtimes()
    asked = () if precision is None else (precision,)
    offers = [(each, offered) for each in runtimes for offered in chosen_precisions(each, asked)]
    if not offers:
        offered = "; ".join(f"{each.name} offers {', '.join(each.precisions)}" for each in runtimes)
        raise ConfigError(
            f"precision={precision!r} is not offered by "
            f"{', '.join(each.name for each in runtimes)}: {offered}."
        )
    chosen, fastest = offers[0] if len(offers) == 1 else best_in_turns(spec, offers, threads)
    return chosen.name, fastest, ScaledTable(chosen, fastest, threads).timed_whole(spec)


def best_in_turns(spec: AnySpec, offers: Offers, threads: int) -> tuple[Runtime, Precision]:
    """The fastest of these files. Tables of theirs would compare one minute with another."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, pixels = Path(name), noise(1, spec)
        write_untrained(spec, folder / "float.onnx")
        runs = {}
        for number, (runtime, precision) in enumerate(offers):
            built = build_files(runtime, folder / "float.onnx", folder / "built", (precision,))
            session = runtime.session(built[precision], precision, threads)
            runs[str(number)] = partial(session.run, pixels)
        found = measure_latency(runs, PLANNING, threads)
    return offers[min(range(len(offers)), key=lambda number: found[str(number)].median_ms)]
