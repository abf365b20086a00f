"""In which runtime and precision a network is fastest on this machine."""

from __future__ import annotations

from pocketvision.errors import ConfigError
from pocketvision.fitting.plan import chosen_precisions
from pocketvision.models.arch import ArchSpec
from pocketvision.record import Latency, Precision
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.searching.scaled_table import ScaledTable


def fastest_file(
    spec: ArchSpec, runtime: str | None, precision: Precision | None, threads: int
) -> tuple[str, Precision, Latency]:
    """Runtime and precision of the fastest of the untrained files, and how fast it is.

    runtime, precision: None: all that are installed, and all they offer.

    Raises: ConfigError: a precision that none of them offers.
    """
    runtimes = [get_runtime(runtime)] if runtime else installed_runtimes()
    asked = () if precision is None else (precision,)
    found: dict[tuple[str, Precision], Latency] = {
        (each.name, offered): ScaledTable(each, offered, threads).timed_whole(spec)
        for each in runtimes
        for offered in chosen_precisions(each, asked)
    }
    if not found:
        offers = "; ".join(f"{each.name} offers {', '.join(each.precisions)}" for each in runtimes)
        raise ConfigError(
            f"precision={precision!r} is not offered by "
            f"{', '.join(each.name for each in runtimes)}: {offers}."
        )
    (name, fastest), latency = min(found.items(), key=lambda pair: pair[1].median_ms)
    return name, fastest, latency
