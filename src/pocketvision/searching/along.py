"""Searches and narrowings on several nodes, seen from any but node 0: the networks that it comes to
are trained on all of them, and everything else is done there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.folder import PREPARED
from pocketvision.fitting.following import follow, refuse_other_words
from pocketvision.fitting.reporter import Reporter
from pocketvision.models.networks import task_of
from pocketvision.models.weights import load
from pocketvision.narrowing.state import STATE as NARROWED
from pocketvision.searching.search_config import SearchConfig, SearchState
from pocketvision.searching.search_run import SEARCHING, STATE
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.storage import from_json


def follow_search(config: SearchConfig, out: Path, reporter: Reporter) -> Artefact:
    """Train the arms of a search along with node 0; what came out. Raises: as `follow`."""
    wanted = FitConfig(
        data=config.data,
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        skip_bad=config.skip_bad,
        seed=config.seed,
    )
    refuse = partial(_refuse_other_words, config, SearchState, out / SEARCHING / STATE)
    return follow(wanted, out, reporter, refuse)


def follow_shrink(config: ShrinkConfig, out: Path, reporter: Reporter) -> Artefact:
    """Fine-tune what node 0 narrowed along with it; what came out.

    Raises: as `follow`. ArtefactError: there is no network.
    """
    wanted = FitConfig(
        data=config.images,
        task=task_of(load(Path(config.source))[0].spec),
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        skip_bad=config.skip_bad,
        void=config.void,
        seed=config.seed,
    )
    refuse = partial(_refuse_other_words, config, ShrinkState, out / PREPARED / NARROWED)
    return follow(wanted, out, reporter, refuse)


def _refuse_other_words(
    config: SearchConfig | ShrinkConfig, kind: type[SearchState] | type[ShrinkState], path: Path
) -> None:
    """Whoever scores is no matter of a node that scores nothing. Raises: ConfigError."""
    there = from_json(kind, path.read_bytes(), source=str(path)).config
    refuse_other_words(replace(config, workers=there.workers), there)
