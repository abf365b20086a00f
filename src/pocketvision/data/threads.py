"""Decoding many images at once."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from PIL import Image

Progress = Callable[[int, int], None]  # (done, of how many)

GROUP = 8  # items handed to a thread at once: one by one, threads wait for each other's results

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
        ahead = 4 * GROUP * (os.cpu_count() or 1)
        for done, result in enumerate(decode_ahead(work, items, ahead), 1):
            use(result)
            if progress is not None:
                progress(done, len(items))


def decode_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[_Result]:
    """`work(item)` for every item, in order, in one thread per core, `ahead` items before use.

    An error of `work` is raised in place of its group's results.
    """
    waiting: deque[Future[list[_Result]]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            while group := list(islice(rest, GROUP)):
                if len(waiting) * GROUP >= ahead:
                    yield from waiting.popleft().result()
                waiting.append(pool.submit(_each, work, group))
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _each(work: Callable[[_Item], _Result], group: list[_Item]) -> list[_Result]:
    return [work(item) for item in group]


def heed_bombs_alone() -> None:
    """Of Pillow's warnings only that of a decompression bomb is heeded, as an error."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
