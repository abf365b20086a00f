import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models import weights
from pocketvision.models.arch import Network
from pocketvision.models.create import create_model
from pocketvision.models.registry import spec
from pocketvision.storage import to_json


def network(*, width: float = 0.35, num_classes: int = 3, seed: int = 0) -> Network:
    return create_model(
        "mobilenet_v3_small", width=width, resolution=32, num_classes=num_classes, seed=seed
    )


def states_equal(one: Network, two: Network) -> bool:
    pairs = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class Code:
    """A pickle of this would run a command when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def test_saved_network_comes_back_whole(tmp_path: Path) -> None:
    saved = network()
    preprocessing = Preprocessing.for_resolution(32)
    weights.save(saved, tmp_path, classes=("a", "b", "c"), preprocessing=preprocessing)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["network.json", "network.safetensors"]
    loaded, file = weights.load(tmp_path)
    assert loaded.spec == file.spec == saved.spec
    assert (file.classes, file.preprocessing) == (("a", "b", "c"), preprocessing)
    assert states_equal(loaded, saved)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(x), saved.eval()(x))


def test_classes_and_preprocessing_may_be_unknown(tmp_path: Path) -> None:
    weights.save(network(), tmp_path)
    _, file = weights.load(tmp_path)
    assert (file.classes, file.preprocessing) == ((), None)


def test_description_can_be_read_alone(tmp_path: Path) -> None:
    weights.save(network(), tmp_path, classes=("a", "b", "c"))
    (tmp_path / "network.safetensors").unlink()
    file = weights.read_network_file(tmp_path / "network.json")
    assert file == weights.NetworkFile(spec=network().spec, classes=("a", "b", "c"))


def test_saving_channels_last_keeps_the_values(tmp_path: Path) -> None:
    saved = network()
    saved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights.save(saved, tmp_path)
    assert states_equal(weights.load(tmp_path)[0], saved)


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    weights.save(network(), tmp_path)
    state = torch.get_rng_state()
    weights.load(tmp_path)
    assert torch.equal(state, torch.get_rng_state())


def test_save_refuses_another_number_of_names_than_logits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 class names for 3 logits; expected as many"):
        weights.save(network(), tmp_path, classes=("a", "b"))
    assert not list(tmp_path.iterdir())


def test_save_refuses_preprocessing_for_another_resolution(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="preprocessing is for resolution 64, the network for 32"):
        weights.save(network(), tmp_path, preprocessing=Preprocessing.for_resolution(64))


@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_load_says_which_file_is_missing(tmp_path: Path, name: str) -> None:
    weights.save(network(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name} does not exist; expected a folder with"):
        weights.load(tmp_path)


def test_load_says_what_in_the_description_is_wrong(tmp_path: Path) -> None:
    weights.save(network(), tmp_path)
    path = tmp_path / "network.json"
    path.write_text(path.read_text().replace('"hswish"', '"swish"'))
    with pytest.raises(
        ArtefactError, match=r"network.json is not a valid NetworkFile: spec\.blocks"
    ):
        weights.load(tmp_path)


def test_load_lists_how_the_weights_differ(tmp_path: Path) -> None:
    weights.save(network(), tmp_path)
    other = weights.NetworkFile(spec=spec("mobilenet_v2", width=0.35, num_classes=3))
    (tmp_path / "network.json").write_text(to_json(other))
    with pytest.raises(ArtefactError) as caught:
        weights.load(tmp_path)
    message = str(caught.value)
    assert "network.safetensors is not of the network in" in message
    assert " missing (blocks.3.expand" not in message  # both networks have it
    assert " missing (blocks.12.expand.conv.weight, " in message
    assert " extra (blocks.1.attention.expand.bias, " in message
    assert "blocks.0.conv.weight is 8x3x3x3 float32, expected 16x3x3x3 float32" in message
    assert ", ...)" in message


def test_load_lists_another_type_as_a_difference(tmp_path: Path) -> None:
    weights.save(network().half(), tmp_path)
    with pytest.raises(ArtefactError, match="is 8x3x3x3 float16, expected 8x3x3x3 float32"):
        weights.load(tmp_path)


@pytest.mark.parametrize("kept", [20, 5000])
def test_load_says_that_a_safetensors_file_is_damaged(tmp_path: Path, kept: int) -> None:
    weights.save(network(), tmp_path)
    path = tmp_path / "network.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArtefactError, match="is a damaged safetensors file: "):
        weights.load(tmp_path)


def test_fine_tuning_takes_everything_from_the_same_network(tmp_path: Path) -> None:
    source, target = network(seed=1), network(seed=2)
    weights.save(source, tmp_path)
    report = weights.load_weights(target, tmp_path)
    assert report == weights.WeightsReport(replaced=(), loaded=len(source.state_dict()))
    assert states_equal(source, target)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_fine_tuning_replaces_a_changed_head_and_says_so(tmp_path: Path, suffix: str) -> None:
    source, target = network(seed=1), network(num_classes=7, seed=2)
    before = target.head.get_parameter("classifier.weight").clone()
    weights.save(source, tmp_path)
    torch.save(source.state_dict(), tmp_path / "network.pth")
    report = weights.load_weights(target, tmp_path / f"network.{suffix}")
    assert report.replaced == ("head.classifier.weight", "head.classifier.bias")
    assert report.loaded == len(source.state_dict()) - 2
    assert torch.equal(target.head.get_parameter("classifier.weight"), before)
    assert torch.equal(
        target.blocks[0].get_parameter("conv.weight"), source.blocks[0].get_parameter("conv.weight")
    )
    assert torch.equal(
        target.head.get_parameter("hidden.weight"), source.head.get_parameter("hidden.weight")
    )


def test_fine_tuning_replaces_whole_layers_of_the_head(tmp_path: Path) -> None:
    source = network()
    weights.save(source, tmp_path)
    wider = replace(source.spec, head=replace(source.spec.head, hidden=1280)).build(seed=2)
    report = weights.load_weights(wider, tmp_path)
    assert report.replaced == (
        "head.hidden.weight",
        "head.hidden.bias",
        "head.classifier.weight",
        "head.classifier.bias",
    )


def test_fine_tuning_refuses_another_architecture_and_changes_nothing(tmp_path: Path) -> None:
    weights.save(network(width=0.5), tmp_path)
    target, untouched = network(), network()
    with pytest.raises(
        ArtefactError,
        match=r"is not of the architecture mobilenet_v3_small x0.35 @32: \d+ different \(blocks.* "
        "Only the head may differ",
    ):
        weights.load_weights(target, tmp_path)
    assert states_equal(target, untouched)


def test_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    for name, legacy in [("new.pth", False), ("old.pth", True)]:
        torch.save({"w": Code()}, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ArtefactError, match=f"{name} holds more than tensors, or is damaged"):
            weights.load_weights(network(), tmp_path / name)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Code()))
    with pytest.raises(ArtefactError, match="files that could run code are refused"):
        weights.load_weights(network(), tmp_path / "bare.pth")


def test_checkpoint_of_something_else_says_what_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3, "state_dict": {}}, path)
    with pytest.raises(ArtefactError, match=r"not a dictionary of tensors; save `network\.state"):
        weights.load_weights(network(), path)


def test_damaged_checkpoint_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtefactError, match="is a damaged PyTorch checkpoint"):
        weights.load_weights(network(), path)


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>not found</html>"])
def test_file_that_is_neither_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="neither a safetensors file nor a PyTorch checkpoint"):
        weights.load_weights(network(), path)


def test_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"absent\.safetensors does not exist"):
        weights.load_weights(network(), tmp_path / "absent.safetensors")


def test_unreadable_file_says_why(tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").mkdir()
    with pytest.raises(ArtefactError, match=r"network.safetensors cannot be read: .+\."):
        weights.load_weights(network(), tmp_path)
