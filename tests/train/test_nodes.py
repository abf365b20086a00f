"""Which node this is, as the environment says it."""

from __future__ import annotations

import os

import pytest

from pocketvision.errors import ConfigError
from pocketvision.train.nodes import NAMES, Node, meeting, this_node

GIVEN = {"NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "node[07-08]",
    "SLURM_JOB_ID": "991234",
    "SLURM_NTASKS": "2",
}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *SLURM):
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch: pytest.MonkeyPatch, words: dict[str, str]) -> None:
    for name, value in words.items():
        monkeypatch.setenv(name, value)


def test_node_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, GIVEN)
    assert this_node(2) == Node(rank=1, nodes=2, address="first", port=29500)


def test_slurm_says_it_too_and_is_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, SLURM)
    assert this_node(2) == Node(rank=1, nodes=2, address="node07", port=16234)
    say(monkeypatch, {"MASTER_PORT": "29500"})
    assert this_node(2).port == 29500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, r"nodes=2, and the environment lacks NODE_RANK and MASTER_ADDR and MASTER_PORT\. St"),
        ({**GIVEN, "MASTER_ADDR": ""}, r"lacks MASTER_ADDR\. Start the same command once on every"),
        ({**GIVEN, "NODE_RANK": "2"}, r"NODE_RANK='2' with nodes=2; expected .* from 0 to 1\."),
        ({**GIVEN, "NODE_RANK": "-1"}, r"NODE_RANK='-1' with nodes=2; expected a whole number"),
        ({**GIVEN, "MASTER_PORT": "http"}, r"MASTER_PORT='http'; expected .* from 1 to 65535\."),
        ({**SLURM, "SLURM_NTASKS": "4"}, r"SLURM_NTASKS=4 with nodes=2: .* one task a node"),
    ],
)
def test_environment_that_cannot_be_is_refused(
    words: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, words)
    with pytest.raises(ConfigError, match=message):
        this_node(2)


def test_meeting_is_in_the_environment_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, {"MASTER_PORT": "29500"})
    with meeting(Node(rank=1, nodes=2, address="first", port=29500), 4000):
        assert [os.environ[name] for name in NAMES] == ["1", "first", "4000"]
    assert [os.environ.get(name) for name in NAMES] == [None, None, "29500"]
