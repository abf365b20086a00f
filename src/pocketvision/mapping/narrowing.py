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

from pocketvision.data.scene.scene import Labels, Mask, Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.fitting.ranking import HEADROOM
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_table import SPREAD_UNCHECKED
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.gates import sample_places
from pocketvision.mapping.layer_table import LayerTable
from pocketvision.mapping.plan import LEARNING_RATES
from pocketvision.mapping.scene_target import SceneTarget
from pocketvision.mapping.shrink_config import STATE, SceneShrinkConfig, SceneShrinkState
from pocketvision.mapping.untrained import untrained_files
from pocketvision.measure.latency import middle_of_few
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.models.patch_narrow import narrow_patch
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.storage import to_json, write_into
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene import train_scene_briefly
from pocketvision.train.scene_config import SceneTrainConfig
from pocketvision.train.threads import cpu_threads

SPREAD = 1.01  # the interval of a quiet measurement reaches so far above its median
ODD_SHARE = 0.08  # of the sum: a measurement that is further from it is repeated
HELD_OUT_SHARE = 0.15  # of the squares with training pixels
JUDGES = 512  # pixels held out that judge, at most
JUDGED = 64  # windows a pass
KEYS_A_STEP = 1000  # no network has so many widths


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


@dataclass(kw_only=True)
class SceneNarrowing:
    """What the steps share. `state` changes only through `save`.

    fitting: the run on the scene that comes afterwards, but for the network. network: behind the
    last step. finish_s: of what comes behind the long training.
    """

    config: SceneShrinkConfig
    fitting: SceneConfig
    folder: Path
    reporter: Reporter
    clock: Clock
    state: SceneShrinkState
    scene: Scene
    split: SceneSplit
    lessons: SceneLessons
    seed: PatchNetwork
    network: PatchNetwork
    table: LayerTable | SceneTarget
    finish_s: float

    def save(self, state: SceneShrinkState) -> None:
        """Make `state` the current one and write it."""
        self.state = replace(state, spent_s=round(self.clock.spent_s, 3))
        write_into(self.folder / STATE, to_json(self.state))

    @property
    def seed_ms(self) -> float:
        """What the seed takes, untrained."""
        latency = self.state.steps[0].latency
        assert latency is not None
        return latency.median_ms

    @property
    def target_ms(self) -> float:
        """What a whole network may take, so that what ships is within the latency asked for."""
        if isinstance(self.table, SceneTarget):  # the same for what ships, but sums are off
            return self.config.latency_ms / (1 + SPREAD_UNCHECKED)
        return self.config.latency_ms / HEADROOM / SPREAD

    @property
    def share_s(self) -> float | None:
        """Of the time, what is left to narrowing; None without a limit."""
        return self.clock.share_left_s(self.config.adapting_share, self.finish_s)

    @property
    def is_late(self) -> bool:
        """True if the share of the time that was for narrowing is over: steps are large then."""
        return self.clock.has_spent(self.config.adapting_share, self.finish_s)

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

    def tuned(self, spec: PatchSpec, place: int) -> PatchNetwork:
        """The proposal at that place of its step, behind its short training; the same whenever it
        is made.
        """
        key = KEYS_A_STEP * len(self.state.steps) + place
        network = narrow_patch(self.network, spec)
        train_scene_briefly(network, self.lessons.train, self.brief(key), self.seed)
        return network

    def brief(self, key: int) -> SceneTrainConfig:
        """The short training of a proposal. key: which pixels it learns from."""
        return SceneTrainConfig(
            training=self.fitting.training,
            steps=self.state.brief_steps,
            warmup_steps=0,
            learning_rate=self.fitting.learning_rate or LEARNING_RATES[self.seed.spec.name],
            precision=self.state.arithmetic,
            threads=self.state.threads,
            accelerator="cpu",
            seed=self.fitting.seed + key,
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


def network_folder(state: SceneShrinkState, folder: Path) -> Path:
    """Where the network behind the last step lies. Two places take turns: one is always whole."""
    number = len(state.steps) - 1
    return folder / f"{number % 2}" if number > 0 else Path(state.config.source)
