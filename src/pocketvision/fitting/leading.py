"""One run on several nodes: node 0 does all of it, and calls the others to train along.

Every node is given the same command. Node 0 listens where MASTER_ADDR and MASTER_PORT say, and the
others hold a connection to it: that closes when node 0 ends, however it ends. On it go a call for
each training and the end; all else the others read in the output folder, where they write nothing.
A run can have others within it, as a search has: their trainings are calls on the same connection.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import find_free_network_port

from pocketvision.errors import ConfigError, PocketvisionError
from pocketvision.fitting.artefact import RUN, TRAINING
from pocketvision.fitting.reporter import Reporter
from pocketvision.storage import sha256_file, to_json
from pocketvision.train.alarms import Diverged
from pocketvision.train.nodes import Node, meeting, this_node
from pocketvision.train.trainer import CHECKPOINT

PATIENCE_S = 1800.0  # until all nodes are there; as long as torch waits for a rank
READY = b"ready\n"
CHECKED = (RUN, f"{TRAINING}/{CHECKPOINT}")  # what a training depends on


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A line of node 0: a training begins, or the run ended.

    port: of node 0, where the training meets; 0: there is none. folder: of the run that trains, in
    the output folder. files: CHECKED -> SHA-256, or "" where there is no such file. exit_code,
    sentence: those of node 0.
    """

    port: int = 0
    folder: str = "."
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
    def training(self, folder: Path) -> Iterator[None]:
        """Call the others to the training in the block, and wait until they are ready for it.

        folder: of the run that trains: `out`, or one within it.

        Raises: ConfigError: one did not come. PocketvisionError: one ended.
        """
        self.await_all()
        call = Told(
            port=find_free_network_port(),
            folder=folder.relative_to(self.out).as_posix(),
            files={name: content_of(folder / name) for name in CHECKED},
        )
        self._tell(call)
        for rank, other in self.others.items():
            if read_line(other) != READY:
                raise PocketvisionError(
                    f"Node {rank} ended before the training began, and says why. Run the same "
                    "command on all nodes again."
                )
        self._tell(call)  # all are ready: now
        try:
            with meeting(self.node, call.port):
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

    def await_all(self) -> None:
        """Wait for those that are not there yet. Raises: ConfigError: one did not come."""
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

    def _gone(self) -> int | None:
        """The first node that ended. One that lives says nothing now."""
        for rank, other in self.others.items():
            other.settimeout(1)
            with suppress(TimeoutError):
                if not read_line(other):
                    return rank
        return None

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
            name = read_line(connection).strip()
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
def leading(
    nodes: int, out: Path, reporter: Reporter, lead: Lead | None = None
) -> Iterator[Lead | None]:
    """The others are told how the block ended. None: there are no others.

    lead: of the run that this one is within, which goes on when the block has ended.

    Raises: as `Lead`.
    """
    if nodes == 1 or lead is not None:
        yield lead
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


def content_of(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    return sha256_file(path) if path.is_file() else ""


def read_line(connection: socket.socket) -> bytes:
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
