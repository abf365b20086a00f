"""`fit` with or without a search: as asked, or as the time allows."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args

from pocketvision.budget import format_time
from pocketvision.errors import BudgetError, ConfigError, choice
from pocketvision.fitting import pipeline
from pocketvision.fitting.artefact import RUN, Artefact
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.record.words import Precision
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import LEAST_EPOCHS, SearchConfig
from pocketvision.searching.search_plan import AMPLE_EPOCHS
from pocketvision.searching.search_run import SEARCHING

SearchChoice = Literal["auto", "on", "off"]
LEAST_S = 1800.0  # below, planning a search would take too much of the time
SHARED = frozenset(field.name for field in fields(SearchConfig))
TRANSLATED = {"runtimes": "runtime", "precisions": "precision"}  # one at most


def run_searched_fit(
    config: FitConfig,
    search: SearchChoice,
    out: Path,
    reporter: Reporter | None = None,
    *,
    command: str = "",
) -> Artefact:
    """The main job. search: "on"; "off"; "auto": where the time asked for holds one whose supernet
    gets enough epochs to rank its members.

    Raises: as `run_fit` and `run_search`. ConfigError: "on" with what a search does not take.
    """
    choice("search", search, get_args(SearchChoice))
    reporter, begun = reporter or Silent(), time.monotonic()
    if search == "on" or (out / SEARCHING).exists():
        return run_search(search_config(config), out, reporter, command=command)
    if search == "auto" and not (out / RUN).exists():
        reason = _reason_against(config)
        if not reason:
            try:
                worthwhile = search_config(config, least_epochs=AMPLE_EPOCHS)
                return run_search(worthwhile, out, reporter, command=command)
            except (BudgetError, ConfigError) as error:
                if (out / SEARCHING).exists():  # it had begun
                    raise
                reason = str(error)
        reporter.say(f"No search: {reason}")
    spent_s = time.monotonic() - begun  # a search that was planned in vain took of the same time
    return pipeline.run_fit(config, out, reporter, command=command, spent_s=spent_s)


def _reason_against(config: FitConfig) -> str:
    """Why there is no search; empty: nothing known yet speaks against one."""
    time_s = config.budget.time_s
    if config.budget.latency_ms is None:
        return "it needs a --latency."
    if time_s is None or time_s < LEAST_S:
        return f"it needs a --time of {format_time(LEAST_S)} or more."
    if strange := _not_taken(config):
        return f"it does not take {', '.join(strange)}."
    if config.nodes > 1:
        return "with --nodes there is one only where --search on asks for it."
    return ""


def search_config(config: FitConfig, *, least_epochs: int = LEAST_EPOCHS) -> SearchConfig:
    """The search that has the options of a fit. least_epochs: as of `SearchConfig`.

    Raises: ConfigError: options that a search does not take.
    """
    if strange := _not_taken(config):
        raise ConfigError(f"--search does not take {', '.join(strange)}; leave that away.")
    return SearchConfig(
        data=config.data,
        budget=config.budget,
        resolutions=config.resolutions,
        runtime=next(iter(config.runtimes), None),
        precision=next((p for p in get_args(Precision) if p in config.precisions), None),
        threads=config.threads,
        target=config.target,
        weights=config.weights,
        epochs=config.epochs,
        least_epochs=least_epochs,
        batch_size=config.batch_size or TASKS["classify"].batch_size,
        augmentation=config.augmentation,
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        max_drop_points=config.max_drop_points,
        skip_bad=config.skip_bad,
        seed=config.seed,
    )


def _not_taken(config: FitConfig) -> list[str]:
    """Options, as they are written, that were given and that a search has no use for."""
    usual = FitConfig(data=config.data)
    given = [f.name for f in fields(config) if getattr(config, f.name) != getattr(usual, f.name)]
    several = [name for name in TRANSLATED if len(getattr(config, name)) > 1]
    strange = [name for name in given if name not in SHARED | TRANSLATED.keys()]
    return [f"--{name.replace('_', '-')}" for name in (*strange, *several)]
