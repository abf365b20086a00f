"""Keep freed memory in the process, so that training does not fault the same pages in again."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_ONE_GIB = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc not to return large freed blocks to the system; False where there is no glibc.

    By default glibc maps blocks above 128 kB anew for every tensor, and the kernel clears each page
    again (benchmarks/training_step.py measures what that costs).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GIB) and libc.mallopt(_M_TRIM_THRESHOLD, _ONE_GIB)
    )
