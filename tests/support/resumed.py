"""What a training leaves that is stopped in between and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketvision.train.module import TaskModule
from pocketvision.train.trainer import fit


def check_goes_on_to_the_same(make: Callable[[], TaskModule], folder: Path) -> None:
    """Weights are the same to the bit, stopped in step 4 or not."""

    class Stop(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done == 4:
            raise Stop

    whole, again = make(), make()
    fit(whole, folder=folder / "whole")
    with pytest.raises(Stop):
        fit(make(), folder=folder / "parts", on_step=stop)
    fit(again, folder=folder / "parts")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
