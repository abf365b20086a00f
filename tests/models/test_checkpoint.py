"""Tensors out of files of weights: what is refused, in which words."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pocketvision.errors import ArtefactError
from pocketvision.models.checkpoint import read_checkpoint


def written(folder: Path, content: object) -> Path:
    torch.save(content, folder / "w.pth")
    return folder / "w.pth"


def test_wrappers_and_prefixes_come_off(tmp_path: Path) -> None:
    content = {"epoch": 3, "model_ema": {"module.w": torch.ones(2), "n_averaged": torch.tensor(1)}}
    found = read_checkpoint(written(tmp_path, content))
    assert found.averaged
    assert {name: tensor.tolist() for name, tensor in found.state.items()} == {"w": [1.0, 1.0]}


@pytest.mark.parametrize(
    "content", [{}, {"n_averaged": torch.tensor(1)}, [torch.ones(2)], {"w": 1}]
)
def test_what_holds_no_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ArtefactError, match=r"w\.pth is not a dictionary of tensors; save `netw"):
        read_checkpoint(path)


def test_numbers_in_place_of_names_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"state_dict": {1: torch.ones(2)}})
    with pytest.raises(
        ArtefactError, match=r"w\.pth has 1 where the name of a tensor belongs; save"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.empty(2, 2, device="meta")], ids=["sparse", "meta"]
)
def test_tensors_that_do_not_lie_value_by_value_are_refused(tmp_path: Path, tensor: Tensor) -> None:
    path = written(tmp_path, {"w": torch.ones(2), "head.weight": tensor})
    with pytest.raises(
        ArtefactError, match=r"w\.pth holds 'head\.weight' sparse, nested, quantised or without va"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize("shape", [(0, 1280), (32, 0, 3, 3)])
def test_sizes_of_0_are_of_no_network(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = written(tmp_path, {"w": torch.ones(2), "head.weight": torch.zeros(shape)})
    size = "x".join(map(str, shape))
    with pytest.raises(
        ArtefactError,
        match=rf"w\.pth is of no network: 'head\.weight' is {size} float32; expected sizes from 1",
    ):
        read_checkpoint(path)
