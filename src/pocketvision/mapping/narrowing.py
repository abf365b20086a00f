"""A narrowing of a network for a scene: what its steps share, and how proposals are judged.

Test pixels are not looked at: small squares of the training pixels are held out. Their windows
reach into what is learned, so what is expected of proposals is high; it ranks them, and says no
more.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pocketvision.compress.netadapt import Proposal
from pocketvision.data.scene.scene import Labels, Mask, Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.fitting.target_table import SPREAD_UNCHECKED
from pocketvision.mapping.artefact import load_patch_network, save_patch_network
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.gates import sample_places
from pocketvision.mapping.layer_table import LayerTable
from pocketvision.mapping.plan import LEARNING_RATES
from pocketvision.mapping.scene_target import SceneTarget
from pocketvision.mapping.shrink_config import SceneShrinkConfig, SceneShrinkState
from pocketvision.mapping.untrained import untrained_files
from pocketvision.measure.latency import middle_of_few
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.models.patch_narrow import narrow_patch
from pocketvision.narrowing.narrower import Narrower
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene import train_scene_briefly
from pocketvision.train.scene_config import SceneTrainConfig
from pocketvision.train.threads import cpu_threads

ODD_SHARE = 0.08  # of the sum: a measurement that is further from it is repeated
HELD_OUT_SHARE = 0.15  # of the squares with training pixels
JUDGES = 512  # pixels held out that judge, at most
JUDGED = 64  # windows a pass


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneLessons:
    """What proposals learn from, and the places (n, 2) of the pixels that judge them, with the
    classes (n,) of these.
    """

    train: SceneSource
    places: NDArray[np.int64]
    classes: NDArray[np.int64]

    @classmethod
    def of(
        cls, bands: NDArray[np.float32], labels: Labels, split: SceneSplit, seed: int
    ) -> SceneLessons:
        """Training pixels in two: bands (H, W, n) reduced, labels (H, W)."""
        held_out = squares(split.train, max(1, split.window // 2), seed)
        learned = np.where(split.train & ~held_out, labels.astype(np.int64) - 1, -1)
        places = sample_places(held_out, JUDGES, seed)
        classes = labels[places[:, 0], places[:, 1]].astype(np.int64) - 1
        return cls(train=SceneSource(bands=bands, targets=learned), places=places, classes=classes)

    @torch.inference_mode()
    def expected_accuracy(self, network: PatchNetwork, threads: int) -> float:
        """Mean probability of the right class, 0..1, of the pixels held out."""
        side, found = network.spec.window, []
        with cpu_threads(threads):
            for start in range(0, len(self.places), JUDGED):
                part = slice(start, start + JUDGED)
                corners = self.places[part] - side // 2
                windows = np.stack([self.train.cut(top, left, side, side) for top, left in corners])
                images = torch.from_numpy(windows).permute(0, 3, 1, 2).contiguous()
                right = torch.from_numpy(self.classes[part])[:, None]
                found.append(network(images).softmax(1).gather(1, right))
        return float(torch.cat(found).mean())


def squares(mask: Mask, side: int, seed: int) -> Mask:
    """Some of a mask (H, W): all of it that lies in squares drawn by the seed, one at least; where
    the mask has but one square, half of its pixels.
    """
    rows, columns = np.indices(mask.shape) // side
    numbers = rows * (columns.max() + 1) + columns
    there = np.unique(numbers[mask])
    if len(there) == 1:
        half = np.zeros_like(mask)
        half.flat[np.flatnonzero(mask)[::2]] = True
        return half
    order = np.random.default_rng(seed).permutation(there)
    drawn = order[: max(1, round(HELD_OUT_SHARE * len(there)))]
    return mask & np.isin(numbers, drawn)


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneProposal:
    """A narrower form of the network. key: which pixels it learns from."""

    spec: PatchSpec
    key: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneScoring:
    """Proposals for the network in a folder; it can be sent to another process.

    network, teacher: folders. brief: the training of each. first_key: of the first of them.
    """

    network: Path
    teacher: Path
    lessons: SceneLessons
    brief: SceneTrainConfig
    first_key: int

    def task(self, proposal: Proposal[PatchSpec], place: int) -> SceneProposal:
        """The proposal at that place of its step."""
        return SceneProposal(spec=proposal.spec, key=self.first_key + place)

    def open(self) -> SceneTuner:
        """Read the networks. Raises: ArtefactError: they are missing or damaged."""
        network, teacher = (load_patch_network(path)[0] for path in (self.network, self.teacher))
        return SceneTuner(scoring=self, network=network, teacher=teacher)


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneTuner:
    """The networks in one process."""

    scoring: SceneScoring
    network: PatchNetwork
    teacher: PatchNetwork

    def score(self, task: SceneProposal) -> float:
        """Expected accuracy, 0..1, of the pixels held out."""
        scoring = self.scoring
        return scoring.lessons.expected_accuracy(self.tuned(task), scoring.brief.threads)

    def tuned(self, task: SceneProposal) -> PatchNetwork:
        """The network behind its short training; the same whenever it is made."""
        lessons, brief = self.scoring.lessons, self.scoring.brief
        network = narrow_patch(self.network, task.spec)
        keyed = replace(brief, seed=brief.seed + task.key)
        train_scene_briefly(network, lessons.train, keyed, self.teacher)
        return network


@dataclass(kw_only=True)
class SceneNarrowing(Narrower[PatchSpec, PatchNetwork, SceneShrinkState]):
    """What the steps share. fitting: the run on the scene that comes afterwards, but for the
    network.
    """

    config: SceneShrinkConfig
    table: LayerTable | SceneTarget
    fitting: SceneConfig
    scene: Scene
    split: SceneSplit
    lessons: SceneLessons

    @property
    def expected(self) -> str:
        """As of `Narrower`."""
        return "expected accuracy of the training pixels held out"

    @property
    def sum_spread(self) -> float | None:
        """As of `Narrower`."""
        return SPREAD_UNCHECKED if isinstance(self.table, SceneTarget) else None

    def timed_whole(self, spec: PatchSpec) -> Latency:
        """One pixel by an untrained file of the whole network, timed now; the median of a few,
        where the first is noisy or far from what the layers make one expect. By the table of a
        target, what that says.
        """
        if isinstance(self.table, SceneTarget):
            return self.table.latency_of(spec, self.scene.cube.shape[2])
        precision, expected_ms = self.state.precision, self.table.latency_ms(spec)

        def timed() -> Latency:
            found = timed_files(self.fitting, self.scene, self.split, spec, (precision,))
            return found[precision]

        return middle_of_few(
            timed, lambda latency: abs(latency.median_ms / expected_ms - 1) > ODD_SHARE
        )

    def scoring(self) -> SceneScoring:
        """As of `Narrower`."""
        return SceneScoring(
            network=self.network_folder,
            teacher=Path(self.config.source),
            lessons=self.lessons,
            brief=self.brief,
            first_key=self.first_key,
        )

    def keep(self, network: PatchNetwork, folder: Path) -> None:
        """As of `Narrower`."""
        folder.mkdir(exist_ok=True)
        save_patch_network(network, folder, classes=self.scene.classes)

    @property
    def brief(self) -> SceneTrainConfig:
        """The short training of a proposal, whose key is added to the seed."""
        return SceneTrainConfig(
            training=self.fitting.training,
            steps=self.state.brief_steps,
            warmup_steps=0,
            learning_rate=self.fitting.learning_rate or LEARNING_RATES[self.seed.spec.name],
            precision=self.state.arithmetic,
            threads=self.state.threads,
            accelerator="cpu",
            seed=self.fitting.seed,
        )


def timed_files(
    fitting: SceneConfig,
    scene: Scene,
    split: SceneSplit,
    spec: PatchSpec,
    precisions: tuple[str, ...],
) -> dict[Precision, Latency]:
    """One pixel by untrained files of a network, by precision."""
    asked = replace(fitting, precisions=precisions)
    with tempfile.TemporaryDirectory() as folder:
        found = untrained_files(asked, scene, split, spec, Path(folder) / "files")
    return {file.precision: file.latency for file in found}
