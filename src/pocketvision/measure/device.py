"""What machine this is, and keeping a process to some of its cores."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator

import psutil

from pocketvision.cpu import available_cores, cpu
from pocketvision.errors import ConfigError
from pocketvision.record.timing import Machine
from pocketvision.storage import sha256_bytes, to_json

RUNTIME_PACKAGES = ("onnxruntime", "openvino")  # what a latency depends on
PACKAGES = ("pocketvision", "torch", "numpy", *RUNTIME_PACKAGES, "nncf")


def machine() -> Machine:
    """This machine as it goes into a record; the packages it names are not imported."""
    processor = cpu()
    return Machine(
        cpu=processor.name,
        architecture=processor.architecture,
        cores=available_cores(),
        features=processor.features,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=_versions(PACKAGES),
        load=-1.0 if (load := load_average()) is None else load,
    )


def load_average() -> float | None:
    """Processes that ran or waited, mean of the last minute; None where the system has none."""
    if not hasattr(os, "getloadavg"):
        return None
    try:
        return os.getloadavg()[0]
    except OSError:  # some containers
        return None


def machine_key() -> str:
    """Sixteen hexadecimal digits that change with what a latency depends on here.

    That is the processor, its instruction sets, the cores in reach, and the runtimes' versions.
    """
    processor = cpu()
    versions = sorted(_versions(RUNTIME_PACKAGES).items())
    parts = (
        processor.name,
        processor.architecture,
        *processor.features,
        str(available_cores()),
        *(f"{name} {version}" for name, version in versions),
    )
    return sha256_bytes(to_json(parts).encode())[:16]


def can_pin(threads: int) -> bool:
    """True where this process can be kept to as many cores as it has threads."""
    return hasattr(os, "sched_setaffinity") and available_cores() >= threads


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Keep every thread of this process on the first `threads` cores of its affinity.

    Restores each thread's own affinity afterwards; does nothing where the system has none, or
    has too few cores.
    Raises: ConfigError: threads below 1.
    """
    if threads < 1:
        raise ConfigError(f"threads={threads} is out of range; expected at least 1.")
    if not can_pin(threads) or available_cores() == threads:
        yield
        return
    before = os.sched_getaffinity(0)
    saved = {thread: cores for thread in _threads() if (cores := _affinity(thread))}
    first = set(sorted(before)[:threads])
    for thread in saved:
        _set_affinity(thread, first)
    try:
        yield
    finally:
        for thread in _threads():  # those born meanwhile inherited the restriction
            _set_affinity(thread, saved.get(thread, before))


def _threads() -> list[int]:
    return [thread.id for thread in psutil.Process().threads()]


def _affinity(thread: int) -> set[int]:
    try:
        return os.sched_getaffinity(thread)
    except ProcessLookupError:  # it has ended
        return set()


def _set_affinity(thread: int, cores: set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)


def installed_version(package: str) -> str:
    """The version of a package, without importing it; empty where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: version for name in packages if (version := installed_version(name))}
