"""Print by how much two members of a supernet differ on one image: what chance makes of scores.

python scripts/score_spread.py searched/ --members 20
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import numpy as np
import torch

from pocketvision.data.images import scan
from pocketvision.fitting.reporter import Silent
from pocketvision.searching.search_config import SearchState
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_run import SEARCHING, STATE, Images
from pocketvision.searching.search_work import WEIGHTS, load_supernet
from pocketvision.storage import from_json
from pocketvision.train.brief import chances
from pocketvision.train.supernet import calibrated


def main() -> None:
    """Read the arguments and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("searched", type=Path, help="folder of a search with a supernet")
    parser.add_argument(
        "--members", type=int, default=20, help="the best of those that were scored"
    )
    arguments = parser.parse_args()
    spreads, images = spreads_in(arguments.searched, arguments.members)
    middle, errors = float(np.median(spreads)), 3 / math.sqrt(images)
    print(
        f"{len(spreads)} pairs of the best members on {images} images: the difference of what they "
        f"expect of an image has a standard deviation of {middle:.3f} (median; {min(spreads):.3f} "
        f"to {max(spreads):.3f}). Three standard errors are {100 * errors * middle:.2f} points."
    )


def spreads_in(folder: Path, members: int) -> tuple[list[float], int]:
    """For every pair of the best members, the spread of what they expect of an image; and of how
    many images.
    """
    path = folder / SEARCHING / STATE
    state = from_json(SearchState, path.read_bytes(), source=str(path))
    samples = scan(state.config.data, seed=state.config.seed)
    images = Images.of(samples, state.space, state.config.seed, Silent())
    supernet = load_supernet(state.space, len(samples.classes), folder / SEARCHING / WEIGHTS)
    log = ScoreLog(folder / SEARCHING)
    scored = sorted(log.entries, key=lambda entry: -entry.accuracy)
    best = list(dict.fromkeys(entry.member for entry in scored))[:members]
    found = []
    for member in best:
        network = calibrated(supernet, member, images.train, images.preprocessing)
        found.append(chances(network, images.held_out, images.preprocessing))
    pairs = itertools.combinations(found, 2)
    return [float(torch.std(one - other)) for one, other in pairs], len(images.held_out)


if __name__ == "__main__":
    main()
