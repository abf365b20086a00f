"""One run on several nodes: node 0 does all of it, and calls the others to train along.

Every node is given the same command. Node 0 listens where MASTER_ADDR and MASTER_PORT say, and the
others hold a connection to it: that closes when node 0 ends, however it ends. On it go a call for
each training and the end; all else the others read in the output folder, where they write nothing.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import find_free_network_port

from pocketvision.data.images import Samples
from pocketvision.data.stream import open_pixels
from pocketvision.errors import BudgetError, ConfigError, GateError, PocketvisionError
from pocketvision.fitting.artefact import RUN, TRAINING, Artefact, read_state
from pocketvision.fitting.config import FitConfig, RunState
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import Clock, Run
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.training import base_config, course_of, preprocessing_for
from pocketvision.progress import counted
from pocketvision.storage import from_json, sha256_file, to_json
from pocketvision.train.alarms import Diverged
from pocketvision.train.devices import check_devices
from pocketvision.train.nodes import Node, meeting, this_node
from pocketvision.train.trainer import CHECKPOINT, join

PATIENCE_S = 1800.0  # until all nodes are there; as long as torch waits for a rank
SHARED_S = 120  # until files that node 0 wrote are seen on another node
NEWS_S = 30.0  # until node 0 says what it makes of a training that failed
READY = b"ready\n"
CHECKED = (RUN, f"{TRAINING}/{CHECKPOINT}")  # what a training depends on


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A line of node 0: a training begins, or the run ended.

    port: of node 0, where the training meets; 0: there is none. files: CHECKED -> SHA-256, or ""
    where there is no such file. exit_code, sentence: those of node 0.
    """

    port: int = 0
    files: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0
    sentence: str = ""


class Lead:
    """Node 0's side: the connections of the others, in the order in which they are taken up."""

    def __init__(self, node: Node, out: Path, reporter: Reporter) -> None:
        """Raises: ConfigError: MASTER_ADDR is unknown here, or MASTER_PORT is taken."""
        self.node, self.out, self.reporter = node, out, reporter
        self.others: dict[int, socket.socket] = {}  # by rank
        try:
            family = socket.getaddrinfo(node.address, node.port, type=socket.SOCK_STREAM)[0][0]
            self.door = socket.create_server(("", node.port), family=family, backlog=node.nodes)
        except OSError as error:
            raise ConfigError(
                f"Node 0 cannot listen for the others: MASTER_ADDR={node.address!r}, "
                f"MASTER_PORT={node.port}: {error.strerror or error}."
            ) from error

    @contextmanager
    def training(self) -> Iterator[None]:
        """Call the others to the training in the block, and wait until they are ready for it.

        Raises: ConfigError: one did not come. PocketvisionError: one ended.
        """
        self._await_all()
        files = {name: _sha256(self.out / name) for name in CHECKED}
        port = find_free_network_port()
        self._tell(Told(port=port, files=files))
        for rank, other in self.others.items():
            if _read_line(other) != READY:
                raise PocketvisionError(
                    f"Node {rank} ended before the training began, and says why. Run the same "
                    "command on all nodes again."
                )
        self._tell(Told(port=port, files=files))  # all are ready: now
        try:
            with meeting(self.node, port):
                yield
        except Diverged:
            raise
        except PocketvisionError as error:
            if (gone := self._gone()) is None:
                raise
            raise PocketvisionError(
                f"Node {gone} ended during the training, and says why. Run the same command on all "
                "nodes again to go on."
            ) from error

    def end(self, exit_code: int, sentence: str) -> None:
        """Tell the others that the run ended, and close what they are connected with."""
        self._take_up_waiting()
        self._tell(Told(exit_code=exit_code, sentence=sentence))
        for connection in (*self.others.values(), self.door):
            connection.close()

    def _gone(self) -> int | None:
        """The first node that ended. One that lives says nothing now."""
        for rank, other in self.others.items():
            other.settimeout(1)
            with suppress(TimeoutError):
                if not _read_line(other):
                    return rank
        return None

    def _await_all(self) -> None:
        self._take_up_waiting()
        if missing := self.node.nodes - 1 - len(self.others):
            self.reporter.say(f"Waiting for {missing} of {self.node.nodes} nodes to join.")
        until = time.monotonic() + PATIENCE_S
        while len(self.others) < self.node.nodes - 1:
            self.door.settimeout(max(0.001, until - time.monotonic()))
            try:
                self._take_up()
            except TimeoutError as error:
                raise ConfigError(
                    f"{len(self.others) + 1} of {self.node.nodes} nodes came within "
                    f"{PATIENCE_S / 60:.0f} minutes; run the same command on every node."
                ) from error

    def _take_up_waiting(self) -> None:
        self.door.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self._take_up()

    def _take_up(self) -> None:
        """Raises: OSError: nobody came in time."""
        connection, _ = self.door.accept()
        connection.settimeout(10)  # whoever is not one of us may say nothing at all
        name = b""
        with suppress(TimeoutError):
            name = _read_line(connection).strip()
        rank = int(name) if name.isdigit() else 0
        if not 0 < rank < self.node.nodes or rank in self.others:
            connection.close()
            return
        connection.settimeout(None)
        self.others[rank] = connection

    def _tell(self, told: Told) -> None:
        for other in self.others.values():
            with suppress(OSError):  # it ended, which is noticed where it is waited for
                other.sendall(to_json(told, indent=None).encode())


@contextmanager
def leading(nodes: int, out: Path, reporter: Reporter) -> Iterator[Lead | None]:
    """The others are told how the block ended. None: there are no others.

    Raises: as `Lead`.
    """
    if nodes == 1:
        yield None
        return
    lead = Lead(this_node(nodes), out, reporter)
    try:
        yield lead
    except BaseException as error:
        code = error.exit_code if isinstance(error, PocketvisionError) else 2
        interrupted = isinstance(error, KeyboardInterrupt)
        lead.end(code, "interrupted." if interrupted else str(error) or type(error).__name__)
        raise
    lead.end(0, "")


def follow(config: FitConfig, out: Path, reporter: Reporter) -> Artefact:
    """Another node's side: train along until node 0 has ended the run; what came out.

    Raises: GateError, BudgetError, PocketvisionError: what ended node 0. ConfigError: this node
    was given other words, or does not see the output folder or the images as node 0 does.
    """
    node = this_node(config.nodes)
    with _connection(node, reporter) as lead:
        reporter.say(f"Node {node.rank} of {node.nodes} trains when node 0 does, in {out}.")
        with reporter.progress("Reading images") as advance:
            samples = TASKS[config.task].scan(config, counted(advance))
        check_devices(base_config(config), len(samples.indices("train")))
        told = _news(lead)
        while told.port:
            state = _shared_state(config, out, samples, told)
            run = Run(
                config=config,
                out=out,
                samples=samples,
                runtimes=[],
                reporter=reporter,
                clock=Clock(None),
                state=state,
            )
            told = _train_along(run, node, lead)
    if told.exit_code == 0:
        return Artefact(out)
    kind = {1: GateError, 3: BudgetError}.get(told.exit_code, PocketvisionError)
    raise kind(f"Node 0 ended the run: {told.sentence}")


@contextmanager
def _connection(node: Node, reporter: Reporter) -> Iterator[socket.socket]:
    """Raises: ConfigError: node 0 is not to be found."""
    where = (node.address, node.port)
    until, said = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            lead = socket.create_connection(where, timeout=5)
            break
        except OSError as error:
            if time.monotonic() > until:
                raise ConfigError(
                    f"Node 0 does not answer at {where[0]}:{where[1]} ({error}); run the same "
                    "command there, or set MASTER_ADDR and MASTER_PORT to where it runs."
                ) from error
        if not said:
            reporter.say(f"Waiting for node 0 at {where[0]}:{where[1]}.")
            said = True
        time.sleep(1)
    with lead:
        lead.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        lead.settimeout(None)
        lead.sendall(f"{node.rank}\n".encode())
        yield lead


def _news(lead: socket.socket) -> Told:
    """What node 0 says next. Raises: PocketvisionError: it is gone. TimeoutError."""
    line = _read_line(lead)
    if not line:
        raise PocketvisionError(
            "Node 0 closed the connection before the run was done: it was ended, or another node "
            "has the same NODE_RANK. Run the same command on all nodes again to go on."
        )
    return from_json(Told, line, source="what node 0 says")


def _shared_state(config: FitConfig, out: Path, samples: Samples, told: Told) -> RunState:
    """run.json, once this node sees what a training depends on as node 0 does.

    Raises: ConfigError: it never does, or this node was given other words or images.
    """
    until = time.monotonic() + SHARED_S  # shared file systems show changes late
    while altered := [name for name in told.files if _sha256(out / name) != told.files[name]]:
        if time.monotonic() > until:
            raise ConfigError(
                f"{out / altered[0]} is not here what it is on node 0; --out must lie on a file "
                "system that all nodes share."
            )
        time.sleep(1)
    state = read_state(out)
    _refuse_other_words(config, state.config)
    if state.fingerprint != samples.fingerprint:
        raise ConfigError(f"{config.data} holds other images on this node than on node 0.")
    return state


def _refuse_other_words(here: FitConfig, there: FitConfig) -> None:
    """Raises: ConfigError: node 0 was given something else."""
    if here.target is not None:  # its table chose them
        here = replace(here, runtimes=there.runtimes, precisions=there.precisions)
    if other := [f.name for f in fields(here) if getattr(here, f.name) != getattr(there, f.name)]:
        said = [f"{name}={getattr(here, name)!r}, not {getattr(there, name)!r}" for name in other]
        raise ConfigError(
            f"This node was given {'; '.join(said)} as node 0; give every node the same words."
        )


def _train_along(run: Run, node: Node, lead: socket.socket) -> Told:
    """Train with node 0 what it trains; what it says afterwards. Raises: as `follow`."""
    assert run.state.train is not None
    preprocessing = preprocessing_for(run, run.spec)
    with run.reporter.progress("Decoding images") as advance:
        pixels = open_pixels(
            run.samples,
            preprocessing.side,
            counted(advance),
            whole=preprocessing.whole,
        )
    network, _ = run.task.start(run.spec, run.config, Silent())
    course = course_of(run, run.state.train, preprocessing, pixels)
    module = run.task.module(network, run.samples, course)
    with suppress(OSError):  # it is gone, which the next line notices
        lead.sendall(READY)
    told = _news(lead)
    if not told.port:
        return told
    failure: PocketvisionError | None = None
    # Node 0 keeps the time: when it stops, all do after the same step.
    deadline = None if run.config.budget.time_s is None else math.inf
    try:
        with meeting(node, told.port), run.reporter.progress("Training"):
            join(module, folder=run.out / TRAINING, deadline=deadline)
    except Diverged:
        pass  # as on node 0, which says how to go on
    except PocketvisionError as error:
        failure = error
        lead.settimeout(NEWS_S)
    try:
        told = _news(lead)
    except TimeoutError:
        assert failure is not None
        raise failure from None
    lead.settimeout(None)
    if failure is not None:
        told = replace(told, sentence=f"{told.sentence} On this node: {failure}")
    return told


def _sha256(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""


def _read_line(connection: socket.socket) -> bytes:
    """Up to a newline; empty where the other side is gone. Raises: TimeoutError."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            byte = connection.recv(1)
        except ConnectionError:
            return b""
        if not byte:
            return b""
        line += byte
    return line
