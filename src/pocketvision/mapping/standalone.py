"""model/run.py: maps the classes of a cube without this package.

The script embeds the source of `mosaic`, so the shipped file goes through a scene as this package
does, with the same numbers.
"""

from __future__ import annotations

import inspect
import json
import math

from pocketvision.data.scene.scene import equals, missing
from pocketvision.mapping import mosaic
from pocketvision.runtimes.scene_export import SceneCard

_EMBEDDED = (
    equals,
    missing,
    mosaic.Tile,
    mosaic.spans,
    mosaic.tiles,
    mosaic.block,
    mosaic.tile_logits,
    mosaic.class_numbers,
)

_HEAD = '''"""Map the classes of a hyperspectral cube: python run.py cube.npy classes.npy

cube.npy: (height, width, {bands}), raw as the sensor gave it. classes.npy: (height, width), 0
without a measurement and the numbers below otherwise. Needs onnxruntime and numpy, and model.onnx
beside it. Written by pocketvision.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CARD = json.loads({card!r})
THREADS, TILE = {threads}, {tile}
STRIP_BYTES, WINDOWS_AT_ONCE = {strip_bytes}, {windows}


'''

_TAIL = '''

def open_session():
    """A function from (N, height, width, bands) float32 spectra to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    path = Path(__file__).with_name("model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda spectra: session.run(None, {"input": spectra})[0]


def open_cube(file):
    """The cube, memory-mapped. Raises ValueError where it cannot be mapped by this network."""
    cube = np.load(file, mmap_mode="r")
    if cube.ndim != 3 or cube.dtype.kind not in "iuf":
        raise ValueError(f"it holds {cube.dtype} {cube.shape}, not numbers (H, W, bands)")
    bands = len(CARD["fill"])
    if cube.shape[2] != bands:
        raise ValueError(f"the cube has {cube.shape[2]} bands, this network takes {bands}")
    return cube


def classify(cube, classes, run):
    """Write the class of every pixel of `cube` into `classes`; pixels of each class."""
    fill = np.asarray(CARD["fill"], np.float32)
    counts = np.zeros(len(CARD["classes"]) + 1, np.int64)
    rows = lambda start, stop: np.ascontiguousarray(cube[start:stop])
    for part in tiles(rows, cube.shape, CARD["window"], fill, CARD["no_data"], TILE):
        logits = tile_logits(run, CARD["form"], CARD["window"], part.spectra)
        numbers = class_numbers(logits, part.measured)
        classes[part.top : part.bottom, part.left : part.right] = numbers
        counts += np.bincount(numbers.ravel(), minlength=len(counts))
    return counts


def write_map(cube, target):
    """Classify into a file that is there whole or not at all; pixels of each class."""
    run = open_session()
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    dtype = np.uint8 if len(CARD["classes"]) < 256 else np.uint16
    try:
        classes = np.lib.format.open_memmap(part, "w+", dtype, cube.shape[:2])
        counts = classify(cube, classes, run)
        classes.flush()
        os.chmod(part, 0o644)
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return counts


def main(files):
    if len(files) != 2:
        print("usage: python run.py cube.npy classes.npy", file=sys.stderr)
        return 2
    try:
        cube = open_cube(files[0])
    except (OSError, ValueError) as error:
        print(f"{files[0]} cannot be mapped: {error}", file=sys.stderr)
        return 2
    if os.path.lexists(files[1]):
        print(f"{files[1]} exists; nothing was changed. Give another name.", file=sys.stderr)
        return 2
    start = time.perf_counter()
    try:
        counts = write_map(cube, Path(files[1]))
    except OSError as error:
        print(f"{files[1]} cannot be written: {error}", file=sys.stderr)
        return 2
    seconds = time.perf_counter() - start
    print(f"{counts.sum()} pixels in {seconds:.2f} s")
    for number, name in enumerate(("no measurement", *CARD["classes"])):
        print(number, name, f"{counts[number] / counts.sum():.2%}", sep="\\t")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''


def scene_script(card: SceneCard, threads: int) -> str:
    """The text of run.py for one shipped file, dense or patch."""
    marks = card.no_data is not None and math.isfinite(card.no_data)  # NaN is one without a word
    facts = {
        "form": card.form,
        "window": card.window,
        "classes": card.classes,
        "fill": card.fill,
        "no_data": card.no_data if marks else None,
    }
    head = _HEAD.format(
        bands=card.bands,
        card=json.dumps(facts),
        threads=threads,
        tile=card.tile,
        strip_bytes=mosaic.STRIP_BYTES,
        windows=mosaic.WINDOWS_AT_ONCE,
    )
    return head + "\n\n".join(inspect.getsource(part) for part in _EMBEDDED) + _TAIL
