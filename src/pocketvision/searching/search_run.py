"""What the phases of a search share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import monotonic

from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import open_pixels
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.leading import Lead
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.models.space import SearchSpace
from pocketvision.progress import counted
from pocketvision.searching.held_out import parts_of
from pocketvision.searching.search_config import SearchConfig, SearchState
from pocketvision.searching.search_space import Table, target_of
from pocketvision.storage import to_json, write_into
from pocketvision.train.batches import PixelSource, training_sources

SEARCHING = "searching"
ARMS = "arms"  # in it
STATE = "search.json"
LATE = 1.1  # of the time planned; then supernet and scoring end sooner than planned


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """What a supernet is trained on, and what judges its members; all of the training images.

    preprocessing: at the largest input side of the space.
    """

    train: PixelSource
    held_out: PixelSource
    preprocessing: Preprocessing

    @classmethod
    def of(cls, samples: Samples, space: SearchSpace, seed: int, reporter: Reporter) -> Images:
        """Decode them."""
        side = max(space.resolutions)
        preprocessing = Preprocessing.for_resolution(side, samples.shorter_side)
        with reporter.progress("Decoding images") as advance:
            pixels = open_pixels(samples, preprocessing.side, counted(advance))
        train, held_out = parts_of(training_sources(samples, pixels)[0], seed)
        return cls(train=train, held_out=held_out, preprocessing=preprocessing)


@dataclass(kw_only=True)
class Searching:
    """A search on its way. `state` changes only through `save`.

    decoded: `images`, where they are known already. lead: of the other nodes, which train arms
    along; None: there are none.
    """

    config: SearchConfig
    out: Path
    reporter: Reporter
    clock: Clock
    state: SearchState
    samples: Samples
    table: Table
    decoded: Images | None = None
    lead: Lead | None = None

    @property
    def folder(self) -> Path:
        """Where everything of the search lies but what comes out of it."""
        return self.out / SEARCHING

    @cached_property
    def images(self) -> Images:
        """Decoded when they are first needed: arms have ways of their own."""
        known, state = self.decoded, self.state
        return known or Images.of(self.samples, state.space, state.config.seed, self.reporter)

    @cached_property
    def footprints(self) -> Footprints:
        """What measures the memory of files, beside an empty session that it measures once."""
        return Footprints(self.config.threads)

    @property
    def target_ms(self) -> float:
        """What an untrained file may measure, so that what ships is within the latency."""
        return target_of(self.config, self.table)

    def deadline(self, begun: float, planned_s: float) -> float | None:
        """The `time.monotonic()` by which what was planned has to end; None without a limit.

        begun: of the search's arm, whose first seconds went into timing blocks.
        """
        if self.state.plan.arm_s is None:
            return None
        return begun + self.state.plan.before_s + self.state.lost_s + LATE * planned_s

    def pause(self, begun: float) -> None:
        """Keep what the search itself has taken since `begun`, a `time.monotonic()`."""
        self.save(replace(self.state, search_s=round(monotonic() - begun, 1)))

    def save(self, state: SearchState) -> None:
        """Make `state` the current one and write it."""
        self.state = replace(state, spent_s=round(self.clock.spent_s, 3))
        write_into(self.folder / STATE, to_json(self.state))
