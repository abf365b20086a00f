"""The supernet of a search as a file, and scoring its members in any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError
from pocketvision.fitting.fine_tuning import networks_of, start_from
from pocketvision.fitting.reporter import Reporter
from pocketvision.models.arch import ArchSpec
from pocketvision.models.narrow import largest_first
from pocketvision.models.space import Member, SearchSpace
from pocketvision.models.spaces import member_at_any_side, spaces_of
from pocketvision.models.supernet import Supernet
from pocketvision.searching.search_config import SearchConfig
from pocketvision.storage import write_into
from pocketvision.train.batches import PixelSource
from pocketvision.train.supernet import answers_of

WEIGHTS = "supernet.safetensors"  # in the folder of the search


def save_supernet(supernet: Supernet, path: Path) -> None:
    """Write the shared weights, atomically."""
    state = {name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}
    write_into(path, safetensors.torch.save(state))


def load_supernet(space: SearchSpace, classes: int, path: Path) -> Supernet:
    """The supernet in eval mode. Raises: OSError: no such file."""
    supernet = Supernet(space, classes, seed=0)
    supernet.load_state_dict(safetensors.torch.load(path.read_bytes()))
    return supernet.eval()


def new_supernet(
    config: SearchConfig, space: SearchSpace, classes: int, reporter: Reporter
) -> Supernet:
    """The supernet before its training; with the weights that the search is to begin with, if any.

    Raises: as `warm_start`.
    """
    supernet = Supernet(space, classes, seed=config.seed)
    if config.weights is not None:
        warm_start(supernet, config.weights, reporter)
    return supernet


def warm_start(supernet: Supernet, weights: str, reporter: Reporter) -> None:
    """Give the weights of a network to the members that share them with it: its channels with the
    largest norm to the most of them.

    weights: as of `member_of_weights`, whose errors this raises too.
    """
    spec = member_of_weights(weights, supernet.space, reporter)
    network = spec.with_classes(supernet.largest.spec.num_classes).build(seed=0)
    start_from(weights, network, reporter)
    supernet.adopt(largest_first(network))


def member_of_weights(weights: str, space: SearchSpace, reporter: Reporter) -> ArchSpec:
    """The network of the weights, which is a member of the space, at its own input side.

    weights: a file, a folder, an address, or a published name, for which a network of the space is
    looked for.

    Raises: ConfigError: they are of no member of the space, or are not there. ArtefactError: a file
    that cannot be downloaded or read.
    """
    specs = networks_of(weights, reporter)
    members = [spec for spec in specs if member_at_any_side(space, spec) is not None]
    if members:
        return members[0]
    found = ", ".join(spec.label for spec in specs)
    others = dict.fromkeys(name for spec in specs for name in spaces_of(spec))
    another = f"--space {' or '.join(others)}" if others else "another --space"
    raise ConfigError(
        f"weights={weights!r} are of {found}: no member of {space.name} "
        f"(x{', x'.join(f'{width:g}' for width in space.widths)}); give those of a member, or "
        f"{another}."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeWork:
    """Scoring members of the supernet in `path`; see `answers_of`. threads: of the CPU."""

    path: Path
    space: SearchSpace
    classes: int
    train: PixelSource
    held_out: PixelSource
    preprocessing: Preprocessing
    threads: int

    def open(self) -> JudgeScorer:
        """Read the weights."""
        return JudgeScorer(self, load_supernet(self.space, self.classes, self.path))


@dataclass(frozen=True, slots=True)
class JudgeScorer:
    """The weights in one process."""

    work: JudgeWork
    supernet: Supernet

    def score(self, task: Member) -> float:
        """Expected accuracy, 0..1, of a member."""
        return float(self.answers(task).mean())

    def answers(self, member: Member) -> Tensor:
        """(N,) probability of the right class, 0..1, of each image that was held out."""
        work = self.work
        return answers_of(
            self.supernet, member, work.train, work.held_out, work.preprocessing, work.threads
        )
