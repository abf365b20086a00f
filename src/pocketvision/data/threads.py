"""Decoding many images at once."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    # Warning filters belong to the process: they are set around the threads, never inside them.
    with warnings.catch_warnings():
        heed_bombs_alone()
        for done, result in enumerate(decode_ahead(work, items, 4 * (os.cpu_count() or 1)), 1):
            use(result)
            if progress is not None:
                progress(done, len(items))


def decode_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[_Result]:
    """`work(item)` for every item, in order, in one thread per core, `ahead` items before use."""
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for item in items:
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def heed_bombs_alone() -> None:
    """Of Pillow's warnings only that of a decompression bomb is heeded, as an error."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
