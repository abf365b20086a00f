"""A round of scorings by workers of any kind: who has which task, who is late, what is known.

A worker is a process. What a score is does not depend on it, so a task whose worker is lost goes to
another.
"""

from __future__ import annotations

import heapq
import math
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from pocketvision.workers.scoring import Message, Work, WorkerError

ATTEMPTS = 3  # workers that a task may cost, or that may be lost in a row before they are ready
SLOWER = 5.0  # times the slowest score so far is no pace any more
OPENING_S = 600.0  # for reading what a work needs
LONGEST_WAIT_S = 3600.0  # between two looks at the clock; the system takes no infinite one
WIDTH = 200  # characters of a task in a message

State = Literal["starting", "idle", "opening", "scoring"]


class Worker(Protocol):
    """A process that scores, seen from the one that asks for scores."""

    def begin(self, work: bytes | None, task: bytes) -> None:
        """Hand it a pickled task, and the pickled work where it is another than before.

        It may be lost meanwhile; that is heard of later.
        """

    def stop(self) -> None:
        """End it at once, whatever it does."""


W = TypeVar("W", bound=Worker)


class Crew(Protocol[W]):
    """Workers of one kind. starting_s: what one may take until it is ready."""

    starting_s: float

    def size(self) -> int:
        """How many workers there may be at a time."""

    def pack(self, thing: Any) -> bytes:
        """Pickled for a worker."""

    def start(self) -> W: ...

    def listen(self, workers: Sequence[W], timeout_s: float) -> list[tuple[W, Message]]:
        """All that was said by now, or the first that is said within the time."""


class Ledger:
    """The tasks of a round. `known` is called for places in their order, however they come in.

    A task that failed is raised when all before it are known, as one worker alone would have it.
    """

    def __init__(self, tasks: Sequence[Any], known: Callable[[int, float], None]) -> None:
        self.tasks, self._known = tasks, known
        self._waiting = list(range(len(tasks)))  # a heap
        self._attempts = [0] * len(tasks)
        self._outcomes: dict[int, float | Exception] = {}  # not told yet
        self._told = 0
        self._end = len(tasks)  # the first that failed; none behind it is begun any more

    @property
    def done(self) -> bool:
        return self._told == len(self.tasks)

    @property
    def waiting(self) -> int:
        """Tasks that a worker should take."""
        return sum(place < self._end for place in self._waiting)

    def take(self) -> int:
        """The place of the first task that waits; there is one."""
        place = heapq.heappop(self._waiting)
        self._attempts[place] += 1
        return place

    def settle(self, place: int, outcome: float | Exception) -> None:
        """Keep what a task came to, and tell what is known in order now.

        Raises: the exception of a task, in its turn; what `known` raises.
        """
        self._outcomes[place] = outcome
        if isinstance(outcome, Exception):
            self._end = min(self._end, place)
        while self._told in self._outcomes:
            first = self._outcomes.pop(self._told)
            if isinstance(first, Exception):
                raise first
            self._known(self._told, first)
            self._told += 1

    def lost(self, place: int, how: str) -> None:
        """The task's worker is no more; it waits again, unless it has cost ATTEMPTS of them.

        how: such as "killed by SIGKILL". Raises: as `settle`; WorkerError: in its turn.
        """
        if self._attempts[place] < ATTEMPTS:
            heapq.heappush(self._waiting, place)
            return
        task = textwrap.shorten(str(self.tasks[place]), WIDTH, placeholder=" ...")
        message = (
            f"Task {place + 1} of {len(self.tasks)} was given up: {ATTEMPTS} workers were lost "
            f"with it, the last one {how}. Run the same command again to go on; if memory ran "
            f"out, with fewer workers. The task: {task}"
        )
        self.settle(place, WorkerError(message))


@dataclass(kw_only=True, eq=False)
class Seat(Generic[W]):
    """A worker and what it is at. place: of its task. work: the pickled one that it has open."""

    worker: W
    state: State = "starting"
    place: int | None = None
    work: bytes | None = None
    since: float = field(default_factory=time.monotonic)

    def enter(self, state: State) -> None:
        self.state, self.since = state, time.monotonic()


class CrewPool(Generic[W]):
    """A pool of a crew's workers, which stay from round to round. hang_s: see `open_pool`."""

    def __init__(self, crew: Crew[W], hang_s: float) -> None:
        self.crew, self.hang_s = crew, hang_s
        self._seats: list[Seat[W]] = []
        self._slowest_s = 0.0
        self._packed = b""
        self._failed_starts = 0

    def scores(self, work: Work, tasks: Sequence[Any], known: Callable[[int, float], None]) -> None:
        """As `Pool.scores`."""
        ledger = Ledger(tasks, known)
        packed = self.crew.pack(work)
        if packed != self._packed:
            self._packed = packed
        try:
            while not ledger.done:
                self._hand_out(ledger)
                self._turn(ledger)
        except BaseException:
            # One that starts may have been heard already, and would not say it again.
            for seat in [seat for seat in self._seats if seat.state != "idle"]:
                self._remove(seat)
            raise

    def close(self) -> None:
        """Stop all workers."""
        for seat in list(self._seats):
            self._remove(seat)

    def _hand_out(self, ledger: Ledger) -> None:
        """Tasks to those that are idle; then as many new workers as there are tasks for them."""
        for seat in [seat for seat in self._seats if seat.state == "idle"]:
            if ledger.waiting:
                seat.place = ledger.take()
                seat.enter("opening")
                fresh = None if seat.work is self._packed else self._packed
                seat.work = self._packed
                seat.worker.begin(fresh, self.crew.pack(ledger.tasks[seat.place]))
        wanted = ledger.waiting - sum(seat.state == "starting" for seat in self._seats)
        if wanted > 0:
            for _ in range(min(wanted, self.crew.size() - len(self._seats))):
                self._seats.append(Seat(worker=self.crew.start()))

    def _turn(self, ledger: Ledger) -> None:
        """Wait until a worker says something or is late, and act on it."""
        first = min(seat.since + self._limit_s(seat) for seat in self._seats)
        timeout_s = min(max(0.0, first - time.monotonic()), LONGEST_WAIT_S)
        seats = {id(seat.worker): seat for seat in self._seats}
        heard = self.crew.listen([seat.worker for seat in self._seats], timeout_s)
        # Judged before `known` is called, which may take long: others can have answered meanwhile.
        now, spoke = time.monotonic(), {id(worker) for worker, _ in heard}
        late = [
            seat
            for key, seat in seats.items()
            if key not in spoke and now >= seat.since + self._limit_s(seat)
        ]
        for seat in late:
            self._lost(ledger, seat, f"stopped: no answer within {self._limit_s(seat):.3g} s")
        for worker, message in heard:
            self._act(ledger, seats[id(worker)], message)

    def _act(self, ledger: Ledger, seat: Seat[W], message: Message) -> None:
        kind, value = message
        if kind == "ready":
            self._failed_starts = 0
            seat.enter("idle")
        elif kind == "began":
            seat.enter("scoring")
        elif kind == "lost":
            self._lost(ledger, seat, value)
        else:
            place = seat.place
            assert place is not None
            if kind == "score":
                self._slowest_s = max(self._slowest_s, time.monotonic() - seat.since)
            elif seat.state == "opening":
                seat.work = None
            seat.place = None
            seat.enter("idle")
            ledger.settle(place, value)

    def _lost(self, ledger: Ledger, seat: Seat[W], how: str) -> None:
        """Raises: WorkerError: none becomes ready; as `Ledger.lost`."""
        self._remove(seat)
        if seat.state == "starting":
            self._failed_starts += 1
            if self._failed_starts == ATTEMPTS:
                self._failed_starts = 0
                raise WorkerError(
                    f"{ATTEMPTS} workers in a row were lost before they began, the last one {how}. "
                    "Run the same command again with fewer workers, or without; a script that "
                    "uses workers does so below `if __name__ == '__main__':`."
                )
        if seat.place is not None:
            ledger.lost(seat.place, how)

    def _limit_s(self, seat: Seat[W]) -> float:
        """How long it may be at what it is at."""
        limits = {
            "starting": self.crew.starting_s,
            "idle": math.inf,
            "opening": OPENING_S,
            "scoring": max(self.hang_s, SLOWER * self._slowest_s),
        }
        return limits[seat.state]

    def _remove(self, seat: Seat[W]) -> None:
        self._seats.remove(seat)
        seat.worker.stop()
