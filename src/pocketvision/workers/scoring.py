"""What is scored, and what of it runs in a worker."""

from __future__ import annotations

import math
import pickle
import traceback
from typing import Any, Literal, Protocol

import torch

from pocketvision.errors import PocketvisionError
from pocketvision.train.alarms import Diverged
from pocketvision.train.allocator import keep_freed_memory

WORST = 0.0  # the score of what has none; accuracies are 0..1

# A worker says "ready" once, and for every task "began" and then "score", or "error" with what was
# raised instead. "lost" is heard of one that is no more, with how, such as "killed by SIGKILL".
Kind = Literal["ready", "began", "score", "error", "lost"]
Message = tuple[Kind, Any]


class WorkerError(PocketvisionError):
    """Workers were lost again and again, or the cluster with all of them."""


class Scorer(Protocol):
    """What a worker has at hand for its tasks."""

    def score(self, task: Any) -> float:
        """0..1, the higher the better; the same for the same task wherever it runs."""


class Work(Protocol):
    """What all tasks of a round share; picklable, so a frozen dataclass at module level."""

    def open(self) -> Scorer:
        """Read pixels and networks; called once in each worker."""


class Station:
    """What runs in a worker, on one thread of PyTorch; what is raised there becomes a message."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        keep_freed_memory()
        self._scorer: Scorer | None = None

    def open(self, work: bytes | None) -> Message:
        """work: pickled; None: the one before."""
        try:
            if work is not None:
                self._scorer = pickle.loads(work).open()
        except Exception as error:
            return "error", portable(error)
        return "began", None

    def score(self, task: bytes) -> Message:
        """task: pickled; a work is open."""
        try:
            assert self._scorer is not None
            return "score", score_of(self._scorer, pickle.loads(task))
        except Exception as error:
            return "error", portable(error)


def score_of(scorer: Scorer, task: Any) -> float:
    """A finite score: WORST where it is NaN or infinite, or the network diverged.

    Another try would come to the same.
    """
    try:
        score = float(scorer.score(task))
    except Diverged:
        return WORST
    return score if math.isfinite(score) else WORST


def portable(error: Exception) -> Exception:
    """The same error, fit for another process, with its calls as a note.

    One that pickling alters becomes a RuntimeError with its kind and sentence.
    """
    calls = "".join(traceback.format_exception(error))
    copy: Exception | None
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    if type(copy) is not type(error) or str(copy) != str(error):
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In a worker:\n{calls}")
    return copy
