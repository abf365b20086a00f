"""Workers that are actors on a Ray cluster, one CPU each.

Every machine of it needs this package, and the images and networks under the same paths. Workers
wait where the cluster is busy, and keep their CPUs until the pool is closed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from pocketvision.errors import ConfigError, require
from pocketvision.workers.scoring import Message, Station, WorkerError

EXTRA = "cluster"
CONNECTING_S = 10.0


class RayWorker:
    """An actor, and what was asked of it, in order."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(_Actor).remote()
        self.answers: deque[Any] = deque([self._actor.ready.remote()])

    def begin(self, work: bytes | None, task: bytes) -> None:
        """As `Worker.begin`."""
        self.answers.append(self._actor.open.remote(work))
        self.answers.append(self._actor.score.remote(task))

    def heard(self) -> Message:
        """The next message, which is there already."""
        try:
            message: Message = self._ray.get(self.answers.popleft())
        except self._ray.exceptions.RayError as error:
            return "lost", f"ended: {_last_line(error)}"
        if message[0] == "error":
            self.answers.clear()  # no score of what could not be opened
        return message

    def stop(self) -> None:
        """As `Worker.stop`."""
        self._ray.kill(self._actor)


class RayCrew:
    """As many workers as the cluster has CPUs."""

    starting_s = math.inf  # others may use the cluster

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray

    def size(self) -> int:
        """As `Crew.size`; the cluster may grow."""
        with _cluster_told(self._ray):
            return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def pack(self, thing: Any) -> bytes:
        """As `Crew.pack`; classes of a script, which no worker can import, go along."""
        packed: bytes = self._ray.cloudpickle.dumps(thing)
        return packed

    def start(self) -> RayWorker:
        """As `Crew.start`."""
        with _cluster_told(self._ray):
            return RayWorker(self._ray)

    def listen(
        self, workers: Sequence[RayWorker], timeout_s: float
    ) -> list[tuple[RayWorker, Message]]:
        """As `Crew.listen`."""
        asked = {worker.answers[0]: worker for worker in workers if worker.answers}
        with _cluster_told(self._ray):
            self._ray.wait(list(asked), num_returns=1, timeout=timeout_s)
            ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        return [(asked[answer], asked[answer].heard()) for answer in ready]


@contextlib.contextmanager
def ray_crew() -> Iterator[RayCrew]:
    """On the cluster this process is connected to; else on the one that it finds, until the end.

    Raises: MissingExtraError: Ray is not installed. ConfigError: there is no cluster to be reached.
    """
    ray = require("ray", EXTRA)
    if ray.is_initialized():
        yield RayCrew(ray)
        return
    try:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"workers='ray' needs a Ray cluster that runs, and none can be reached: "
            f"{_last_line(error)} Start one with `ray start --head`, or set RAY_ADDRESS to the "
            "address of one."
        ) from error
    try:
        yield RayCrew(ray)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself tries an address that nobody listens at for many minutes.

    Raises: OSError: nobody does. address: such as "host:6379" or "ray://host:10001".
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), CONNECTING_S).close()
        except OSError as error:
            raise OSError(f"RAY_ADDRESS={address!r} does not answer ({error}).") from error


class _Actor(Station):
    """A station that can be asked whether it is there."""

    def ready(self) -> Message:
        return "ready", None


@contextlib.contextmanager
def _cluster_told(ray: ModuleType) -> Iterator[None]:
    """Raises: WorkerError: the cluster does not answer."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise WorkerError(
            f"The Ray cluster does not answer: {_last_line(error)} See `ray status`, and run the "
            "same command again to go on."
        ) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
