"""Which network weights belong to, and what is said where they fit none."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.models.checkpoint import Checkpoint, Difference
from pocketvision.models.create import create_model
from pocketvision.models.foreign import COUNT, STEM
from pocketvision.models.identify import hint, identify, our_state


def held(state: dict[str, Tensor]) -> Checkpoint:
    return Checkpoint(path=Path("w.pth"), state=state)


@pytest.fixture(scope="module")
def small() -> Network:
    return create_model("mobilenet_v3_small", width=0.35, num_classes=3, seed=1)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_precisions_become_float32(small: Network, kind: torch.dtype) -> None:
    expected = small.state_dict()
    state = {name: tensor.to(kind) for name, tensor in expected.items()}  # the counters too
    found = our_state(held(state), None, small.spec, expected)
    assert not Difference.between(found, expected).names
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor.to(expected[name].dtype))


def test_float16_is_summed_as_float32() -> None:
    grey = registry.spec("mobilenet_v2", width=0.35, in_chans=1)
    stem = torch.full((16, 3, 3, 3), 30_000.0, dtype=torch.float16)
    found = our_state(held({STEM: stem}), None, grey, {})
    assert torch.equal(found[STEM], torch.full((16, 1, 3, 3), 90_000.0))


def test_counters_that_are_left_out_begin_at_0(small: Network) -> None:
    expected = small.state_dict()
    state = {name: tensor for name, tensor in expected.items() if not name.endswith(COUNT)}
    found = our_state(held(state), None, small.spec, expected)
    assert not Difference.between(found, expected).names
    assert all(not found[name].any() for name in expected.keys() - state.keys())


def test_half_precision_file_loads(small: Network, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in small.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    network = create_model("mobilenet_v3_small", width=0.35, weights=tmp_path / "w.pth")
    assert network.spec == small.spec
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name].to(tensor.dtype))


@pytest.mark.parametrize(
    ("name", "attention"), [("mobilenet_v1", "se"), ("shufflenet_v2_x0_5", "cbam")]
)
def test_attention_that_a_network_was_given_is_told(name: str, attention: str) -> None:
    spec = registry.spec(name, attention=attention, num_classes=4)
    with torch.device("meta"):
        state = Network(spec).state_dict()
    assert identify(held(state), name=name) == spec


@pytest.mark.parametrize(
    ("theirs", "asked", "words"),
    [
        (3, 4, " The file is for 3 channels; pass in_chans=3 (or 1, whose stem is summed)."),
        (1, 3, " The file is for 1 channel; pass in_chans=1."),
    ],
)
def test_other_channels_are_said_to_be_all_that_differs(
    theirs: int, asked: int, words: str
) -> None:
    file = create_model("mobilenet_v3_small", width=0.35, num_classes=3, in_chans=theirs, seed=1)
    spec = registry.spec("mobilenet_v3_small", width=0.35, in_chans=asked)
    assert hint(held(file.state_dict()), None, spec) == words


def test_other_networks_are_named_by_the_hint(small: Network) -> None:
    words = " These look like mobilenet_v3_small x0.35: ask for that."
    assert hint(held(small.state_dict()), None, registry.spec("mobilenet_v2")) == words
    assert hint(held(small.state_dict()), None) == words
