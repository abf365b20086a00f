import csv
import os
import pickle
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketvision.data.pixels import load_pixels
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import eval_batch
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models import weights
from pocketvision.models.arch import Network
from pocketvision.models.create import create_model
from pocketvision.models.foreign import with_norm
from pocketvision.models.registry import spec
from pocketvision.nn.conv import BatchNormSpec
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


class Args:
    """Options that a training script saved beside the tensors: harmless, but not tensors."""


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
    assert states_equal(weights.load_classifier(tmp_path)[0], saved)


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
        ArtefactError, match=r"network.json is not a valid NetworkFile: spec\.classifier\.blocks"
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
    assert report == weights.WeightsReport(
        replaced=(), loaded=len(source.state_dict()), norm=BatchNormSpec()
    )
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
    with pytest.raises(ArtefactError, match=r"not a dictionary of tensors.*; save `network\.state"):
        weights.load_weights(network(), path)


def test_damaged_checkpoint_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtefactError, match="is a damaged PyTorch checkpoint"):
        weights.load_weights(network(), path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "neither a safetensors file nor a PyTorch checkpoint"),
        (b"", "is empty; download it again"),
        (b"<!DOCTYPE html>\n<title>404", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a git-lfs pointer, not weights"),
    ],
)
def test_file_that_is_neither_says_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=words):
        weights.load_weights(network(), path)


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [("state_dict", "module."), ("model", ""), ("model", "module._orig_mod.")],
)
def test_wrappings_of_training_scripts_are_taken_off(
    tmp_path: Path, wrapper: str, prefix: str
) -> None:
    source, target = network(seed=1), network(seed=2)
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 7, wrapper: state}, tmp_path / "w.pth")
    report = weights.load_weights(target, tmp_path / "w.pth")
    assert states_equal(source, target)
    assert report.notes == ()


def test_half_precision_is_taken_and_said(tmp_path: Path) -> None:
    weights.save(network(seed=1).half(), tmp_path)
    target = network(seed=2)
    report = weights.load_weights(target, tmp_path)
    assert report.notes == ("Values of the file in float16 were taken as float32.",)
    assert states_equal(target, network(seed=1).half().float())


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_and_this_is_said(tmp_path: Path, key: str) -> None:
    last, averaged, target = network(seed=1), network(seed=2), network(seed=3)
    state = {f"module.{name}": tensor for name, tensor in averaged.state_dict().items()}
    content = {"state_dict": last.state_dict(), key: {**state, "n_averaged": torch.tensor(9)}}
    torch.save(content, tmp_path / "w.pth")
    report = weights.load_weights(target, tmp_path / "w.pth")
    assert states_equal(averaged, target)
    assert report.notes == (f"Of the weights in the file, the averaged ones ({key}) were taken.",)


def test_refusal_says_how_to_convert_and_the_lines_work(tmp_path: Path) -> None:
    path = tmp_path / "full.pth"
    source, target = network(seed=1), network(seed=2)
    torch.save({"args": Args(), "state_dict": source.state_dict()}, path)
    with pytest.raises(
        ArtefactError, match="Where you trust its source, convert it once"
    ) as caught:
        weights.load_weights(target, path)
    lines = str(caught.value).partition("convert it once:\n")[2]
    exec(textwrap.dedent(lines), {})  # what a user would paste
    weights.load_weights(target, tmp_path / "full-tensors.pth")
    assert states_equal(source, target)


def test_norms_of_our_own_weights_are_kept(tmp_path: Path) -> None:
    norm = BatchNormSpec(eps=1e-3, momentum=0.01)
    source = with_norm(spec("mobilenet_v3_small", width=0.35), norm).build(seed=1)
    weights.save(source, tmp_path)
    target = network(num_classes=1000, seed=2)
    report = weights.load_weights(target, tmp_path)
    assert report.norm == norm
    assert report.notes == ("Batch norms keep the weights' eps 0.001 and momentum 0.01.",)
    assert report.cautions == ()
    assert target.spec.blocks == source.spec.blocks
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(target.eval()(x), source.eval()(x))


def test_report_brings_preprocessing_and_classes(tmp_path: Path) -> None:
    preprocessing = Preprocessing(resolution=32, side=40, mean=(1, 2, 3), std=(4, 5, 6))
    weights.save(network(), tmp_path, classes=("a", "b", "c"), preprocessing=preprocessing)
    report = weights.load_weights(network(), tmp_path / "network.safetensors")
    assert (report.preprocessing, report.classes) == (preprocessing, ("a", "b", "c"))


def test_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.safetensors' does not exist; give a"):
        weights.load_weights(network(), tmp_path / "absent.safetensors")


def test_unreadable_file_says_why(tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").mkdir()
    with pytest.raises(ArtefactError, match=r"network.safetensors cannot be read: .+\."):
        weights.load_weights(network(), tmp_path)


@pytest.fixture(scope="module")
def official() -> Path:
    """torchvision's mobilenet_v2, IMAGENET1K_V1."""
    path = Path(os.environ.get("POCKETVISION_TEST_DATA", "")) / "weights/mobilenet_v2-b0353104.pth"
    if not path.is_file():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with the official weights")
    return path


def test_official_weights_are_known_by_their_file(official: Path, tmp_path: Path) -> None:
    target = create_model("mobilenet_v2", num_classes=3)
    report = weights.load_weights(target, official)
    assert report.source == "torchvision's MobileNetV2"
    assert report.preprocessing == Preprocessing(resolution=224, side=256)
    assert report.classes[281] == "tabby"
    assert report.replaced == ("head.classifier.weight", "head.classifier.bias")
    assert weights.spec_of(official) == spec("mobilenet_v2")
    cut = tmp_path / official.name
    cut.write_bytes(official.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=r"is damaged|is a damaged"):
        weights.load_weights(target, cut)


@pytest.mark.slow
@torch.inference_mode()
def test_official_weights_get_408_of_500_photos_right(official: Path) -> None:
    """torchvision's own preprocessing gets 406: its crop of images with an odd longer side lies
    half a pixel beside ours.
    """
    folder = official.parent.parent / "data" / "imagenet_smoke_500"
    network = create_model("mobilenet_v2", weights=official).eval()
    preprocessing = weights.load_weights(network, official).preprocessing
    assert preprocessing is not None
    right = 0
    for row in csv.DictReader((folder / "labels.csv").read_text().splitlines()):
        pixels = torch.from_numpy(load_pixels(folder / row["file"], preprocessing.side))
        logits = network(eval_batch(pixels[None], preprocessing))
        right += int(logits.argmax()) == int(row["index"])
    assert right == 408
