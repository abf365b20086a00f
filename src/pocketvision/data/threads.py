"""Decoding many images at once."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

Progress = Callable[[int, int], None]  # (done, of how many)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def decode_all(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    use: Callable[[_Result], object],
    progress: Progress | None = None,
) -> None:
    """`use(work(item))` for every item, in order: work in one thread per core, use in this one.

    Few results wait at any time, so memory does not grow with the number of items. An error of
    `work` or `use` ends it and is passed on.
    """
    workers = os.cpu_count() or 1
    waiting: deque[Future[_Result]] = deque()
    done = 0

    def finish_one() -> None:
        nonlocal done
        use(waiting.popleft().result())
        done += 1
        if progress is not None:
            progress(done, len(items))

    # Warning filters belong to the process: they are set around the threads, never inside them.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for item in items:
            if len(waiting) == 4 * workers:
                finish_one()
            waiting.append(pool.submit(work, item))
        while waiting:
            finish_one()
