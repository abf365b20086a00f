"""Scores by workers: the same as without, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pocketvision.errors import ConfigError, DataError, MissingExtraError
from pocketvision.train.alarms import Diverged
from pocketvision.workers.pool import Pool, open_pool
from pocketvision.workers.round import CrewPool, Ledger
from pocketvision.workers.scoring import Message, Scorer, Station, WorkerError, portable

if TYPE_CHECKING:  # a process that is spawned imports this file, and most need none of these
    from pocketvision.data.preprocessing import Preprocessing
    from pocketvision.models.arch import ArchSpec
    from pocketvision.train.batches import PixelSource

HERE = Path(__file__)
PLACES = (HERE.parent, HERE.parents[1] / "support")  # of what workers import


class Altered(Exception):
    """Its sentence grows with every pickling."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is bad")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A task: what its scorer shall do. marker: a file that says it was done once."""

    act: str = "score"
    value: float = 0.0
    marker: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Acting:
    """A work whose scorer does as asked."""

    offset: float = 0.0
    unreadable: bool = False

    def open(self) -> Scorer:
        if self.unreadable:
            raise DataError("No pixels here.")
        return self

    def score(self, task: Asked) -> float:
        again = task.marker is not None and task.marker.exists()
        if task.marker is not None:
            task.marker.touch()
        if not again:
            self._act(task)
        return self.offset + task.value

    def _act(self, task: Asked) -> None:
        if task.act == "diverge":
            raise Diverged("The training loss became nan at step 3.")
        if task.act == "refuse":
            raise DataError(f"Image {task.value:.0f} is gone.")
        if task.act == "err":
            raise Altered("x")
        if task.act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task.act == "hang":
            time.sleep(600)
        if task.act == "wait":
            time.sleep(0.3)


def values(*found: float) -> list[Asked]:
    return [Asked(value=value) for value in found]


def told(pool: Pool, tasks: Sequence[Any], work: Any = None) -> list[float]:
    """Scores in the order they were told in, which is that of the tasks."""
    found: list[float] = []

    def known(place: int, score: float) -> None:
        assert place == len(found)
        found.append(score)

    pool.scores(work or Acting(), tasks, known)
    return found


# Without processes


@dataclass(eq=False)
class FakeWorker:
    """A worker in this process. deaths: how often each value is still to cost a worker."""

    deaths: dict[float, int]
    said: deque[Message] = field(default_factory=lambda: deque([("ready", None)]))
    station: Station = field(default_factory=Station)
    stopped: bool = False

    def begin(self, work: bytes | None, task: bytes) -> None:
        value = pickle.loads(task).value
        self.said.append(self.station.open(work))
        if self.deaths.get(value, 0):
            self.deaths[value] -= 1
            self.said.append(("lost", "killed by SIGKILL"))
        else:
            self.said.append(self.station.score(task))

    def stop(self) -> None:
        assert not self.stopped
        self.stopped = True


class FakeCrew:
    """The youngest worker is heard first, and one message a turn."""

    starting_s = math.inf

    def __init__(self, workers: int, deaths: dict[float, int] | None = None) -> None:
        self.workers, self.deaths = workers, deaths or {}
        self.made: list[FakeWorker] = []

    def size(self) -> int:
        return self.workers

    def pack(self, thing: Any) -> bytes:
        return pickle.dumps(thing)

    def start(self) -> FakeWorker:
        self.made.append(FakeWorker(self.deaths))
        return self.made[-1]

    def listen(
        self, workers: Sequence[FakeWorker], timeout_s: float
    ) -> list[tuple[FakeWorker, Message]]:
        youngest = [worker for worker in reversed(workers) if worker.said][:1]
        return [(worker, worker.said.popleft()) for worker in youngest]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("deaths", [{}, {0.0: 2, 0.75: 1}])
def test_scores_are_told_in_order(workers: int, deaths: dict[float, int]) -> None:
    crew = FakeCrew(workers, dict(deaths))
    pool = CrewPool(crew, 120.0)
    found = [place / 4 for place in range(9)]
    assert told(pool, values(*found)) == found
    pool.close()
    assert all(worker.stopped for worker in crew.made)
    assert len(crew.made) == workers + sum(deaths.values())


def test_worker_opens_a_work_once_until_there_is_another() -> None:
    crew = FakeCrew(1)
    pool = CrewPool(crew, 120.0)
    opened: list[bytes | None] = []
    told(pool, values(0.5))
    crew.made[0].station.open = opened.append  # type: ignore[assignment]
    with pytest.raises(TypeError, match="NoneType"):  # what a list answers is no message
        told(pool, values(0.5))
    assert opened == [None]
    assert told(pool, values(0.5, 0.25), Acting(offset=0.125)) == [0.625, 0.375]


@pytest.mark.parametrize("workers", [None, 1, 2, 5])
def test_first_failure_is_raised_behind_all_scores_before_it(workers: int | None) -> None:
    tasks = [*values(0.5, 0.25), Asked(act="refuse", value=3), Asked(act="refuse", value=4)]
    found: list[float] = []
    with contextlib.ExitStack() as stack:
        pool = (
            stack.enter_context(open_pool(None))
            if workers is None
            else CrewPool(FakeCrew(workers), 120.0)
        )
        with pytest.raises(DataError, match=r"^Image 3 is gone\."):
            pool.scores(Acting(), tasks, lambda _, score: found.append(score))
        assert found == [0.5, 0.25]
        assert told(pool, values(0.75)) == [0.75]  # it goes on to be of use


def test_task_that_costs_three_workers_is_given_up() -> None:
    crew = FakeCrew(2, {0.5: 3})
    pool = CrewPool(crew, 120.0)
    with pytest.raises(
        WorkerError,
        match=r"^Task 2 of 3 was given up: 3 workers were lost with it, the last one killed by "
        r"SIGKILL\. Run the same command again to go on; if memory ran out, with fewer workers\. "
        r"The task: Asked\(act='score', value=0\.5, marker=None\)$",
    ) as found:
        told(pool, values(0.25, 0.5, 0.75))
    assert found.value.exit_code == 2


def test_long_task_is_named_briefly() -> None:
    ledger = Ledger(["word " * 100], lambda place, score: None)
    for _ in range(2):
        ledger.lost(ledger.take(), "killed")
    place = ledger.take()
    with pytest.raises(WorkerError, match=r"The task: (word ){30,40}\.\.\.$"):
        ledger.lost(place, "killed")


def test_workers_that_never_begin_are_an_error() -> None:
    crew = FakeCrew(2)
    pool = CrewPool(crew, 120.0)

    def stillborn() -> FakeWorker:
        return FakeWorker({}, deque([("lost", "ended with exit code 1")]))

    crew.start = stillborn  # type: ignore[method-assign]
    with pytest.raises(
        WorkerError,
        match=r"3 workers in a row were lost before they began, the last one ended with exit code "
        r"1\. .*fewer workers, or without; a script that uses workers does so below `if __name__",
    ):
        told(pool, values(0.25))


def test_nothing_to_score_starts_no_worker() -> None:
    crew = FakeCrew(2)
    assert told(CrewPool(crew, 120.0), []) == []
    assert not crew.made


def test_what_the_caller_raises_ends_the_round() -> None:
    crew = FakeCrew(2)
    pool = CrewPool(crew, 120.0)

    def full(place: int, score: float) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        pool.scores(Acting(), values(0.25, 0.5, 0.75), full)
    assert told(pool, values(0.5)) == [0.5]


def test_error_that_pickling_alters_keeps_its_sentence() -> None:
    assert str(portable(Altered("x"))) == "Altered: x is bad"
    assert isinstance(portable(Altered("x")), RuntimeError)
    same = portable(DataError("No."))
    assert (type(same), str(same)) == (DataError, "No.")
    assert "In a worker" in same.__notes__[0]


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (0, "workers=0 is not allowed; expected a whole number from 1 up"),
        ("dask", r"workers='dask' is unknown; expected one of \['ray'\]"),
    ],
)
def test_other_workers_are_refused(workers: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message), open_pool(workers):
        pass


def test_time_to_hang_is_checked() -> None:
    with pytest.raises(ConfigError, match="hang_s=0 is out of range"), open_pool(2, hang_s=0):
        pass


def test_absent_ray_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtraError, match=r"needs ray.*pip install 'pocketvision\[cluster\]'"),
        open_pool("ray"),
    ):
        pass


# With processes


def spawned() -> set[int]:
    """Workers of this process."""
    children = psutil.Process().children()
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}


@pytest.fixture(scope="module")
def two() -> Iterator[Pool]:
    """Two processes for the tests that leave them alive."""
    with open_pool(2) as pool:
        yield pool


@pytest.mark.parametrize("workers", [None, 2])
def test_no_number_and_divergence_are_the_worst_score(workers: int | None, two: Pool) -> None:
    tasks = [*values(math.nan, 0.5, math.inf, -math.inf), Asked(act="diverge", value=0.5)]
    with open_pool(None) as alone:
        pool = alone if workers is None else two
        assert told(pool, tasks) == [0.0, 0.5, 0.0, 0.0, 0.0]


def test_late_task_does_not_change_the_order(two: Pool) -> None:
    tasks = [Asked(act="wait", value=0.75), *values(0.5, 0.25)]
    assert told(two, tasks) == [0.75, 0.5, 0.25]


def test_what_a_scorer_raises_is_raised_here(two: Pool) -> None:
    with pytest.raises(DataError, match=r"^Image 7 is gone\.") as refused:
        told(two, [Asked(act="refuse", value=7)])
    assert "In a worker" in refused.value.__notes__[0]
    with pytest.raises(RuntimeError, match=r"^Altered: x is bad"):
        told(two, [Asked(act="err")])
    with pytest.raises(DataError, match=r"^No pixels here\."):
        told(two, values(0.5), Acting(unreadable=True))
    assert told(two, values(0.5)) == [0.5]


def test_killed_and_hanging_workers_are_replaced(tmp_path: Path) -> None:
    tasks = [
        Asked(act="die", value=0.5, marker=tmp_path / "died"),
        Asked(act="hang", value=0.25, marker=tmp_path / "hung"),
        *values(0.75),
    ]
    before = spawned()
    with open_pool(1, hang_s=0.5) as pool:
        assert told(pool, tasks) == [0.5, 0.25, 0.75]
        assert len(spawned() - before) == 1
    assert spawned() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "how"), [("die", "killed by SIGKILL"), ("hang", r"stopped: no answer within 0\.5 s")]
)
def test_real_workers_are_given_up_after_three(act: str, how: str) -> None:
    with (
        open_pool(1, hang_s=0.5) as pool,
        pytest.raises(WorkerError, match=f"3 workers were lost with it, the last one {how}"),
    ):
        told(pool, [Asked(act=act)])


HEAD = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what is behind & without
sys.path.insert(0, {folder!r})
from test_workers import Acting, Asked, open_pool

def known(place, score):
    print("known", flush=True)

if __name__ == "__main__":
    try:
        with open_pool(1) as pool:
            pool.scores(Acting(), [Asked(), Asked(act="hang")], known)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_first_process(by: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "head.py"
    script.write_text(HEAD.format(folder=str(HERE.parent)))
    head = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with head:
        assert head.stdout is not None
        assert head.stderr is not None
        assert head.stdout.readline() == "known\n"
        workers = psutil.Process(head.pid).children()
        assert len(workers) >= 1
        if by == signal.SIGINT:
            os.killpg(head.pid, by)  # as a terminal does
        else:
            head.send_signal(by)
        out, err = head.communicate(timeout=60)  # until all who hold the pipes have ended
        assert (out, err) == ("stopped\n" if by == signal.SIGINT else "", "")
    assert not psutil.wait_procs(workers, timeout=10)[1]


# Real scorings


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """A work: short fine-tunings of a small network on dark and bright images."""

    seed: int

    def open(self) -> Scorer:
        from two_tones import two_tones

        from pocketvision.data.preprocessing import Preprocessing
        from pocketvision.models import registry

        return Tuner(
            spec=registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2),
            source=two_tones(seed=self.seed),
            preprocessing=Preprocessing(resolution=32, side=32),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuner:
    """Its tasks are keys of short fine-tunings."""

    spec: ArchSpec
    source: PixelSource
    preprocessing: Preprocessing

    def score(self, task: int) -> float:
        from pocketvision.train.brief import fine_tune_briefly
        from pocketvision.train.classify import Classification
        from pocketvision.train.config import TrainConfig
        from pocketvision.train.course import Course

        course = Course(
            train=self.source,
            val=self.source,
            preprocessing=self.preprocessing,
            config=TrainConfig(batch_size=16, learning_rate=1e-3, threads=1),
        )
        module = Classification(self.spec.build(0).eval(), course)
        fine_tune_briefly(module, 6, key=task)
        return module.expected_score()


KEYS = range(5)


@pytest.fixture(scope="module")
def alone() -> list[float]:
    """Scores of real fine-tunings in this process."""
    with open_pool(None) as pool:
        scores = told(pool, KEYS, Tuning(seed=0))
    assert len(set(scores)) == len(KEYS)
    return scores


def test_fine_tunings_score_the_same_with_two_workers(alone: list[float], two: Pool) -> None:
    assert told(two, KEYS, Tuning(seed=0)) == alone


@pytest.mark.slow
def test_fine_tunings_score_the_same_with_one_worker(alone: list[float]) -> None:
    with open_pool(1) as pool:
        assert told(pool, KEYS, Tuning(seed=0)) == alone


# On a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs on this machine, whose workers find this file."""
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray says of its own future
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, PLACES))}},
        )
    yield
    ray.shutdown()


@pytest.mark.slow
def test_fine_tunings_score_the_same_on_a_cluster(alone: list[float], cluster: None) -> None:
    with open_pool("ray") as pool:
        assert told(pool, KEYS, Tuning(seed=0)) == alone
        assert told(pool, [Asked(act="diverge"), *values(math.nan, 0.5)]) == [0.0, 0.0, 0.5]


@pytest.mark.slow
def test_lost_workers_of_a_cluster_are_replaced(cluster: None, tmp_path: Path) -> None:
    tasks = [
        Asked(act="die", value=0.5, marker=tmp_path / "died"),
        Asked(act="hang", value=0.25, marker=tmp_path / "hung"),
        *values(0.75),
    ]
    with open_pool("ray", hang_s=0.5) as pool:
        assert told(pool, tasks) == [0.5, 0.25, 0.75]
        with pytest.raises(DataError, match=r"^Image 7 is gone\."):
            told(pool, [Asked(act="refuse", value=7)])
        with pytest.raises(WorkerError, match="3 workers were lost with it, the last one ended: "):
            told(pool, [Asked(act="die")])
        assert told(pool, values(0.5)) == [0.5]


HEAD_OF_CLUSTER = """
import time
from pocketvision.workers.pool import open_pool

class Sleeping:
    def open(self):
        return self

    def score(self, task):
        time.sleep(task)
        return 0.5

with open_pool("ray") as pool:
    pool.scores(Sleeping(), [0, 600, 600], lambda place, score: print("known", flush=True))
"""


@pytest.mark.slow
def test_killed_first_process_leaves_the_cluster_to_the_next(cluster: None, tmp_path: Path) -> None:
    ray, script = pytest.importorskip("ray"), tmp_path / "head.py"
    script.write_text(HEAD_OF_CLUSTER)
    address = ray.get_runtime_context().gcs_address
    head = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        text=True,
    )
    with head:
        assert head.stdout is not None
        assert head.stdout.readline() == "known\n"
        assert ray.available_resources().get("CPU", 0) < 2  # its workers hang
        head.kill()
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2:
        assert time.monotonic() < until, "workers outlived the process that they worked for"
        time.sleep(0.5)
    with open_pool("ray") as pool:
        assert told(pool, values(0.5, 0.25, 0.75)) == [0.5, 0.25, 0.75]


def test_address_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    if ray.is_initialized():
        ray.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # of nobody, once it is closed
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{port}")
    with (
        pytest.raises(
            ConfigError,
            match=rf"none can be reached: RAY_ADDRESS='ray://127\.0\.0\.1:{port}' does not answer "
            r"\(.*refused\)\. Start one with",
        ),
        open_pool("ray"),
    ):
        pass


@pytest.mark.slow
def test_cluster_that_does_not_run_is_told_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if ray.is_initialized():
        ray.shutdown()
    with (
        pytest.raises(
            ConfigError,
            match=r"workers='ray' needs a Ray cluster that runs, and none can be reached: .*"
            "Start one with `ray start --head`, or set RAY_ADDRESS",
        ),
        open_pool("ray"),
    ):
        pass
