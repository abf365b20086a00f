"""Pieces of work on as many cores: each process has one to itself, and computes on one thread.

All pieces have the same conditions, and what they are compared by is timed when all are done.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue

THREADS = "OMP_NUM_THREADS"  # read by PyTorch when a process imports it


def on_cores(cores: int, pieces: Sequence[Callable[[], object]]) -> None:
    """Run all pieces, begun in their order. They must pickle; what they give is not looked at.

    Raises: what the first piece that fails raises, when those under way have ended.
    """
    if cores == 1:
        for piece in pieces:
            piece()
        return
    context = multiprocessing.get_context("spawn")
    free: SimpleQueue[int] = context.SimpleQueue()
    for core in range(cores):
        free.put(core)
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        with ProcessPoolExecutor(cores, context, initializer=_take_core, initargs=(free,)) as pool:
            begun = [pool.submit(piece) for piece in pieces]
            for future in begun:
                future.result()
    finally:
        _restore(before)


def how_run(cores: int) -> str:
    """What a page says of it."""
    if cores == 1:
        return "Arms ran one at a time."
    return f"Arms ran {cores} at a time, each on one core."


def _restore(threads: str | None) -> None:
    if threads is None:
        del os.environ[THREADS]
    else:
        os.environ[THREADS] = threads


def _take_core(free: SimpleQueue[int]) -> None:
    """Stay on a core that no other process has, where the system can hold one there."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    core = free.get()
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[core % len(allowed)]})


def _end_with_parent() -> None:
    """A piece takes long; the process that it is made for can be killed meanwhile."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
