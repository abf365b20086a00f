"""Workers that are processes of this machine.

They are spawned, not forked: a fork copies PyTorch's locks and threads in any state. None outlives
the process that started it, and none answers to Ctrl-C, which reaches the whole group: the first
process stops the others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import connection, resource_tracker
from typing import Any

from pocketvision.workers.scoring import Message, Station


class LocalWorker:
    """A process, and this end of the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with theirs, _interrupts_held():
            self.process.start()

    def begin(self, work: bytes | None, task: bytes) -> None:
        """As `Worker.begin`."""
        with contextlib.suppress(OSError):  # it is lost; the closed pipe says so
            self.pipe.send((work, task))

    def heard(self) -> Message:
        """The next message, which is there already."""
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            return "lost", self._how()
        return message

    def stop(self) -> None:
        """As `Worker.stop`."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()

    def _how(self) -> str:
        self.process.join(1.0)  # the pipe closes a moment before the process is no more
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class LocalCrew:
    """That many processes."""

    starting_s = 300.0  # an import from a slow disk

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def size(self) -> int:
        """As `Crew.size`."""
        return self._workers

    def pack(self, thing: Any) -> bytes:
        """As `Crew.pack`."""
        return pickle.dumps(thing)

    def start(self) -> LocalWorker:
        """As `Crew.start`."""
        return LocalWorker()

    def listen(
        self, workers: Sequence[LocalWorker], timeout_s: float
    ) -> list[tuple[LocalWorker, Message]]:
        """As `Crew.listen`."""
        by_pipe = {worker.pipe: worker for worker in workers}
        ready = connection.wait(list(by_pipe), timeout_s)
        return [(by_pipe[pipe], by_pipe[pipe].heard()) for pipe in by_pipe if pipe in ready]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started meanwhile has SIGINT blocked from its first moment; here it only waits."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started later, it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: connection.Connection) -> None:
    """What runs in the process, until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    station = Station()
    with contextlib.suppress(EOFError, OSError):
        pipe.send(("ready", None))
        while True:
            work, task = pipe.recv()
            opened = station.open(work)
            pipe.send(opened)
            if opened[0] == "began":
                pipe.send(station.score(task))


def _end_with_parent() -> None:
    """The pipe is read between tasks only; a task may take long, or for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
