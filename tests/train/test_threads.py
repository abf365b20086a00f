"""PyTorch's threads are set for a while, by all that train, in one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import pocketvision
from pocketvision.train.threads import cpu_threads


@pytest.mark.parametrize(("asked", "during"), [(3, 3), (0, 2)])
def test_threads_are_as_before_whatever_ends_the_block(
    asked: int, during: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = [2]
    monkeypatch.setattr(torch, "get_num_threads", lambda: set_to[-1])
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)

    @cpu_threads(asked)
    def interrupted() -> None:
        assert torch.get_num_threads() == during
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.get_num_threads() == 2


def test_threads_that_are_put_back_are_put_back_in_one_place() -> None:
    """Elsewhere they are set for good, in processes that do nothing else."""
    package = Path(pocketvision.__file__).parent
    put_back = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Try) and "set_num_threads" in "".join(
                ast.unparse(line) for line in node.finalbody
            ):
                put_back.append(path.relative_to(package).as_posix())
    assert put_back == ["train/threads.py"]
