"""Which of several machines this one is, as the environment says it: Lightning's words, or SLURM's.

One process is started on each; it starts a process for every one of its devices by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from pocketvision.errors import ConfigError

NAMES = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
HOW = (
    "Start the same command once on every node, with NODE_RANK=0, 1, ... and the same MASTER_ADDR "
    "(the host of node 0) and MASTER_PORT (a port that is free there); under SLURM srun sets them."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """This machine among those that train together. address, port: where node 0 is found."""

    rank: int
    nodes: int
    address: str
    port: int


def this_node(nodes: int) -> Node:
    """Raises: ConfigError: the environment does not say which of `nodes` this is, or cannot be."""
    said = {**_by_slurm(nodes), **{name: os.environ[name] for name in NAMES if name in os.environ}}
    if missing := [name for name in NAMES if not said.get(name)]:
        raise ConfigError(
            f"nodes={nodes}, and the environment lacks {' and '.join(missing)}. {HOW}"
        )
    return Node(
        rank=_number("NODE_RANK", said["NODE_RANK"], 0, nodes - 1, f" with nodes={nodes}"),
        nodes=nodes,
        address=said["MASTER_ADDR"],
        port=_number("MASTER_PORT", said["MASTER_PORT"], 1, 65_535),
    )


def _by_slurm(nodes: int) -> dict[str, str]:
    """What `srun` says, with the host and the port that Lightning derives from it."""
    slurm = os.environ
    if not {"SLURM_NODEID", "SLURM_NODELIST", "SLURM_JOB_ID"} <= slurm.keys():
        return {}
    if "NODE_RANK" not in slurm and (tasks := slurm.get("SLURM_NTASKS", str(nodes))) != str(nodes):
        raise ConfigError(
            f"SLURM_NTASKS={tasks} with nodes={nodes}: SLURM must start one task a node (srun "
            f"--nodes {nodes} --ntasks-per-node 1), which starts one for each of its devices."
        )
    return {
        "NODE_RANK": slurm["SLURM_NODEID"],
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(slurm["SLURM_NODELIST"]),
        "MASTER_PORT": str(15_000 + int(slurm["SLURM_JOB_ID"][-4:])),
    }


def _number(name: str, text: str, low: int, high: int, given: str = "") -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ConfigError(f"{name}={text!r}{given}; expected a whole number from {low} to {high}.")
    return int(text)


@contextmanager
def meeting(node: Node, port: int) -> Iterator[None]:
    """Trainings in the block meet at `port` of node 0; Lightning reads that in the environment."""
    words = (str(node.rank), node.address, str(port))
    before = {name: os.environ.get(name) for name in NAMES}
    os.environ.update(zip(NAMES, words, strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
