"""Independent scorings, one after another here, or side by side in other processes.

Scores, their order and what is raised are the same with any number of workers, provided that a
score is the same on any number of threads, or all is on one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal, Protocol

from pocketvision.errors import at_least, choice, in_range
from pocketvision.workers.cluster import ray_crew
from pocketvision.workers.local import LocalCrew
from pocketvision.workers.round import CrewPool
from pocketvision.workers.scoring import Scorer, Work, score_of

HANG_S = 120.0
FAR_SLOWER = 10.0  # times what a score was timed to take
LONGEST_HANG_S = 86_400.0

Workers = int | Literal["ray"] | None


class Pool(Protocol):
    """What scores tasks, a round at a time."""

    def scores(self, work: Work, tasks: Sequence[Any], known: Callable[[int, float], None]) -> None:
        """Score all tasks; `known(place, score)` for place 0, 1, 2, ... as soon as it can be.

        tasks: picklable, each for `Scorer.score`. Scores are finite: 0, the worst, stands for NaN,
        an infinite one and a network that diverged.

        Raises: what a scorer raised, when all before it are known. WorkerError: a task that cost
        three workers, likewise; no worker begins; the cluster does not answer.
        """


class InProcess:
    """The pool without workers, on as many threads as PyTorch has.

    A work is opened anew when it is another object than the one before.
    """

    def __init__(self) -> None:
        self._opened: tuple[Work, Scorer] | None = None

    def scores(self, work: Work, tasks: Sequence[Any], known: Callable[[int, float], None]) -> None:
        """As `Pool.scores`."""
        if self._opened is None or self._opened[0] is not work:
            self._opened = (work, work.open())
        for place, task in enumerate(tasks):
            known(place, score_of(self._opened[1], task))


@contextmanager
def open_pool(workers: Workers, *, hang_s: float = HANG_S) -> Iterator[Pool]:
    """A pool whose workers start when there is work, and end with the context or this process.

    workers: None: this process alone. A number: as many other processes, of one thread each. "ray":
    as many as the cluster has CPUs that this process is connected to or that RAY_ADDRESS or this
    machine offers. hang_s: a worker that takes longer for a score, and five times as long as
    the slowest before, is stopped, and its task given to another.

    Raises: ConfigError: another value of workers, or no cluster. MissingExtraError: no Ray.
    """
    in_range("hang_s", hang_s, 0.1, LONGEST_HANG_S)
    if workers is None:
        yield InProcess()
    elif isinstance(workers, int):
        at_least("workers", workers, 1)
        with closing(CrewPool(LocalCrew(workers), hang_s)) as local:
            yield local
    else:
        choice("workers", workers, ("ray",))
        with ray_crew() as crew, closing(CrewPool(crew, hang_s)) as cluster:
            yield cluster


def hanging_s(score_s: float) -> float:
    """The `hang_s` of scores that take so many seconds by themselves."""
    return min(max(HANG_S, FAR_SLOWER * score_s), LONGEST_HANG_S)


def exchangeable(one: Workers, other: Workers) -> bool:
    """Whether work that one number of workers began may go on with another, to the same.

    Without any it goes by another number of threads, on which the bits of a score depend.
    """
    return one == other or (one is not None and other is not None)


def check_workers(workers: Workers) -> None:
    """Raises: as `open_pool`: at once, and not when the first work is there."""
    with open_pool(workers):
        pass
