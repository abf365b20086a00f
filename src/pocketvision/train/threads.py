"""How many threads of the CPU PyTorch computes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """PyTorch on that many CPU threads; 0 leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
