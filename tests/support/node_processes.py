"""The command line in processes of its own, as the nodes of one run are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from small_runs import Told

from pocketvision.fitting.leading import Lead
from pocketvision.train.nodes import Node

PATIENCE_S = 240  # for a whole run; a test never waits longer


def node_0_seen_from_node_1(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Node 0 at a free port; the environment is that of node 1."""
    port = find_free_network_port()
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    return Node(rank=0, nodes=2, address="127.0.0.1", port=port)


@contextmanager
def lead_at(node: Node, out: Path) -> Iterator[Lead]:
    lead = Lead(node, out, Told())
    try:
        yield lead
    finally:
        lead.end(2, "")


def say_and_go(node: Node, words: bytes) -> None:
    with socket.create_connection((node.address, node.port)) as stranger:
        stranger.sendall(words)


def await_line(told: Told, sentence: str) -> None:
    until = time.monotonic() + 30
    while sentence not in told.sentences:
        assert time.monotonic() < until
        time.sleep(0.01)


def start(rank: int | None, port: int, *words: str) -> subprocess.Popen[str]:
    """The command as a process of its own, as a node if it has a rank."""
    node = {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "pocketvision", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(node if rank is not None else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Exit codes and all that was said; whatever happens, nothing of them is left."""
    try:
        said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
        codes = [process.returncode for process in processes]
        return [(code, " ".join(out.split())) for code, out in zip(codes, said, strict=True)]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def as_two_nodes(*words: str) -> list[tuple[int, str]]:
    """What comes of one command on two nodes."""
    port = find_free_network_port()
    words = (*words, "--nodes", "2")
    return ended(start(0, port, *words), start(1, port, *words))
