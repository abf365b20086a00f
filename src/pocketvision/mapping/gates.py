"""Exported files of a patch network against the float network, on pixels that do not test it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.scene import Mask
from pocketvision.mapping.reading import labels_of, measured_pixels
from pocketvision.mapping.run import SceneRun
from pocketvision.mapping.tiles import TileAgreement, compare_tile, windows_at
from pocketvision.models.patch import PatchNetwork
from pocketvision.record.words import Precision
from pocketvision.runtimes.scene_onnx import SceneSession
from pocketvision.scene_record import Form

COMPARED = 512  # windows of training pixels, and as many of pixels without a label
BATCH = 32
FLOAT_AGREEMENT = 0.995  # of an exported float file with the float network
FLOAT_DIFFERENCE = 1e-3  # of it, over the greatest logit: rounding stays a hundred times below
INT8_AGREEMENT = (
    0.97  # where nothing was learned: ranges come from training pixels, others may clip
)

FileKey = tuple[Form, Precision]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """A file beside the float network.

    agreement: over n pixels, drop: on those with a label, unlabelled: agreement on the others,
    tile: agreement on a whole tile, of the dense form; None where there are none.
    largest_difference: of any logit, and relative to the greatest one.
    """

    agreement: float
    unlabelled: float | None
    tile: float | None
    n: int
    drop: float
    largest_difference: float
    relative_difference: float

    def passes(self, precision: Precision, max_drop_points: float) -> bool:
        """True if the file loses little, a float file next to nothing."""
        shares = [share for share in (self.unlabelled, self.tile) if share is not None]
        if precision == "f32":
            close = self.relative_difference <= FLOAT_DIFFERENCE
            same = close and min([self.agreement, *shares]) >= FLOAT_AGREEMENT
        else:
            same = min(shares, default=self.agreement) >= INT8_AGREEMENT
        return same and round(100 * self.drop, 9) <= max_drop_points


def compare_files(
    run: SceneRun,
    network: PatchNetwork,
    reduction: BandReduction,
    sessions: dict[FileKey, SceneSession],
) -> dict[FileKey, Agreement]:
    """Every file against the float network on pixels that do not test: windows, and one tile."""
    labels, seed, split = labels_of(run.scene), run.config.seed, run.splits[0]
    trained = sample_places(split.train, COMPARED, seed)
    unlabelled = (labels == 0) & measured_pixels(run.scene)
    places = np.concatenate([trained, sample_places(unlabelled, COMPARED, seed)])
    targets = labels[trained[:, 0], trained[:, 1]] - 1
    reference: list[NDArray[np.float32]] = []
    logits: dict[FileKey, list[NDArray[np.float32]]] = {key: [] for key in sessions}
    for part in np.array_split(places, -(-len(places) // BATCH)):
        spectra = windows_at(run.scene, part, network.spec.window, reduction.mean)
        with torch.inference_mode():
            reduced = torch.from_numpy(reduction.apply(spectra)).permute(0, 3, 1, 2)
            reference.append(network(reduced).numpy())
        for key, session in sessions.items():
            logits[key].append(session.run(spectra).reshape(len(part), -1))
    expected = np.concatenate(reference)
    tiles = {
        key: compare_tile(run.scene, session, network, reduction, ~split.test)
        for key, session in sessions.items()
        if key[0] == "dense"
    }
    return {
        key: _agreement(np.concatenate(found), expected, targets, tiles.get(key))
        for key, found in logits.items()
    }


def sample_places(mask: Mask, count: int, seed: int) -> NDArray[np.int64]:
    """At most `count` places (n, 2) of a mask, chosen by the seed."""
    places = np.argwhere(mask)
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return places[np.sort(chosen)]


def _agreement(
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
    targets: NDArray[np.integer],
    tile: TileAgreement | None,
) -> Agreement:
    """Logits (n, K) of a file and of the float network; the first ones have targets."""
    mine, theirs = found.argmax(1), expected.argmax(1)
    count = len(targets)
    difference = float(np.abs(found - expected).max())
    if tile is not None:
        difference = max(difference, tile.largest_difference)
    drop = (theirs[:count] == targets).mean() - (mine[:count] == targets).mean()
    return Agreement(
        agreement=float((mine == theirs).mean()),
        unlabelled=float((mine == theirs)[count:].mean()) if len(expected) > count else None,
        tile=None if tile is None else tile.agreement,
        n=len(expected),
        drop=float(drop),
        largest_difference=difference,
        relative_difference=difference / max(float(np.abs(expected).max()), 1e-30),
    )
