"""One run on several nodes, seen from any but node 0: train along when that calls (`leading`)."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pocketvision.data.images import Samples
from pocketvision.data.stream import open_pixels
from pocketvision.errors import BudgetError, ConfigError, GateError, PocketvisionError
from pocketvision.fitting.artefact import TRAINING, Artefact, read_state
from pocketvision.fitting.config import FitConfig, RunState
from pocketvision.fitting.leading import PATIENCE_S, READY, Told, content_of, read_line
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import Clock, Run
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.training import base_config, course_of, preprocessing_for
from pocketvision.progress import counted
from pocketvision.storage import from_json
from pocketvision.train.alarms import Diverged
from pocketvision.train.devices import check_devices
from pocketvision.train.nodes import Node, meeting, this_node
from pocketvision.train.trainer import join

SHARED_S = 120  # until files that node 0 wrote are seen on another node
NEWS_S = 30.0  # until node 0 says what it makes of a training that failed
CHOSEN_BY_TABLE = frozenset({"runtime", "runtimes", "precision", "precisions"})  # of a target


class Words(Protocol):
    """A dataclass of what a run is asked for."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def target(self) -> str | None: ...


W = TypeVar("W", bound=Words)


def is_follower(nodes: int) -> bool:
    """Whether node 0 is another one. Raises: ConfigError: the environment does not say."""
    return nodes > 1 and this_node(nodes).rank > 0


def follow(
    config: FitConfig, out: Path, reporter: Reporter, refuse: Callable[[], None]
) -> Artefact:
    """Another node's side: train along until node 0 has ended the run; what came out.

    config: with the images and the devices. refuse: called when node 0 calls; raises ConfigError
    where that was given other words, as `refuse_other_words`.

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
            state = _shared_state(out, samples, told, refuse)
            run = Run(
                config=state.config,
                out=out / told.folder,
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
    line = read_line(lead)
    if not line:
        raise PocketvisionError(
            "Node 0 closed the connection before the run was done: it was ended, or another node "
            "has the same NODE_RANK. Run the same command on all nodes again to go on."
        )
    return from_json(Told, line, source="what node 0 says")


def _shared_state(out: Path, samples: Samples, told: Told, refuse: Callable[[], None]) -> RunState:
    """run.json, once this node sees what a training depends on as node 0 does.

    Raises: ConfigError: it never does, or this node was given other words or images.
    """
    folder = out / told.folder
    until = time.monotonic() + SHARED_S  # shared file systems show changes late
    while altered := [name for name in told.files if content_of(folder / name) != told.files[name]]:
        if time.monotonic() > until:
            raise ConfigError(
                f"{folder / altered[0]} is not here what it is on node 0; --out must lie on a file "
                "system that all nodes share."
            )
        time.sleep(1)
    refuse()
    state = read_state(folder)
    if state.fingerprint != samples.fingerprint:
        raise ConfigError(f"{state.config.data} holds other images on this node than on node 0.")
    return state


def refuse_other_words(here: W, there: W) -> None:
    """Raises: ConfigError: node 0 was given something else."""
    chosen = frozenset() if here.target is None else CHOSEN_BY_TABLE
    names = [field.name for field in fields(here) if field.name not in chosen]
    if other := [name for name in names if getattr(here, name) != getattr(there, name)]:
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
