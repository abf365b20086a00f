"""The exported file computes what the network does, alone, and without needless nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models.arch import Network
from pocketvision.runtimes.export import at_resolution, export_onnx
from pocketvision.runtimes.onnxfile import inspect_onnx, metadata, read_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import FileCard, Logits, Pixels


class Pooled(nn.Module):
    """A stem and a pool, written in the ways a network may pool."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.stem(x)
        if self.how == "adaptive":
            return torch.flatten(nn.functional.adaptive_avg_pool2d(maps, 1), 1)
        if self.how == "negative axes":
            return maps.mean((-1, -2))
        return maps.mean(3).mean(2)


class Shuffled(nn.Module):
    """Writes its resolution into the graph."""

    def forward(self, x: Tensor) -> Tensor:
        height = int(x.shape[2])
        return x.reshape(-1, 3, height * height).mean(2)


def run(model: onnx.ModelProto, pixels: Pixels) -> Logits:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    logits: Logits = session.run(None, {"input": pixels})[0]
    return logits


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in read_model(path).graph.node)


def test_export_computes_what_the_network_does(
    network: Network, card: FileCard, float_file: Path, pixels: Pixels
) -> None:
    with torch.no_grad():
        expected = network(normalise(torch.from_numpy(pixels), card.preprocessing)).numpy()
    logits = run(read_model(float_file), pixels)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert expected.std(0).min() > 0.1  # else the comparison says nothing


def test_export_leaves_the_network_alone(
    make_network: Callable[[int], Network], card: FileCard, tmp_path: Path
) -> None:
    model = make_network(3).train()
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_onnx(model, tmp_path / "model.onnx", card)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    kernel = next(p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # Exported from channels-last: still no node that only moves data about.
    found = operators(tmp_path / "model.onnx")
    assert not {"Gather", "Dropout", "BatchNormalization", "Identity"} & set(found)
    assert found["Transpose"] == 1
    assert found["Reshape"] + found["Flatten"] <= 1


def test_export_pools_globally(float_file: Path) -> None:
    found = operators(float_file)
    assert found["GlobalAveragePool"] > 1
    assert not {"ReduceMean", "AveragePool", "Shape"} & set(found)


@pytest.mark.parametrize(
    ("how", "pools"),
    [("adaptive", 1), ("negative axes", 1), ("one axis at a time", 0)],
)
def test_every_way_to_pool_keeps_its_value(
    how: str, pools: int, pixels: Pixels, card: FileCard, tmp_path: Path
) -> None:
    model, path = Pooled(how), tmp_path / "model.onnx"
    export_onnx(model, path, card)
    assert operators(path)["GlobalAveragePool"] == pools
    expected = model(normalise(torch.from_numpy(pixels), card.preprocessing))
    np.testing.assert_allclose(run(read_model(path), pixels), expected.detach(), atol=1e-5)


def test_file_is_alone_and_says_what_it_takes(float_file: Path, card: FileCard) -> None:
    assert [path.name for path in float_file.parent.iterdir()] == ["model.onnx"]
    info = inspect_onnx(float_file)
    assert [str(tensor) for tensor in info.inputs] == ["input: uint8 (batch, 32, 32, 3)"]
    assert [str(tensor) for tensor in info.outputs] == ["logits: float32 (batch, 4)"]
    assert info.opset >= 18
    assert FileCard.from_metadata(info.metadata, source="file") == card
    assert info.metadata["producer"].startswith("pocketvision ")


def test_file_does_not_name_the_machine_it_was_made_on(float_file: Path) -> None:
    content = float_file.read_bytes()
    for trace in (b"stack_trace", b".py", b"site-packages", str(Path.home()).encode()):
        assert trace not in content


def test_grey_networks_take_one_channel(
    make_network: Callable[[int], Network], card: FileCard, tmp_path: Path
) -> None:
    model = make_network(1)
    path = tmp_path / "model.onnx"
    export_onnx(model, path, card)
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    mean, std = np.mean(card.preprocessing.mean), np.mean(card.preprocessing.std)
    images = torch.from_numpy(((grey - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        expected = model.eval()(images).numpy()
    logits = OnnxRuntime().session(path, "f32", 1).run(grey)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_other_channel_counts_are_refused(
    make_network: Callable[[int], Network], card: FileCard, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"in_chans=4 cannot be exported; expected 1 .* or 3"):
        export_onnx(make_network(4), tmp_path / "model.onnx", card)
    assert not list(tmp_path.iterdir())


def test_failed_export_leaves_the_old_file(card: FileCard, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken on purpose")

    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(Exception, match="broken on purpose"):
        export_onnx(Broken(), path, card)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("which", ["float_file", "int8_file"])
def test_one_export_serves_all_resolutions(
    which: str,
    network: Network,
    card: FileCard,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    source: Path = request.getfixturevalue(which)
    moved = at_resolution(source, 48)
    pairs = FileCard.from_metadata(metadata(moved), source="moved")
    assert pairs == FileCard(
        name=card.name, classes=card.classes, preprocessing=Preprocessing.for_resolution(48)
    )
    assert read_model(source).graph.input[0].type.tensor_type.shape.dim[1].dim_value == 32
    images = np.random.default_rng(2).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    logits = run(moved, images)
    if which == "float_file":
        fresh = tmp_path / "fresh.onnx"
        export_onnx(network, fresh, pairs)
        np.testing.assert_allclose(logits, run(read_model(fresh), images), atol=1e-5)
    back = at_resolution(moved, 32, side=card.preprocessing.side)
    images = images[:, :32, :32]
    np.testing.assert_array_equal(run(back, images), run(read_model(source), images))


def test_a_graph_tied_to_its_resolution_is_refused(card: FileCard, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(Shuffled(), path, card)
    with pytest.raises(ArtefactError, match="cannot work at resolution 48; export the network"):
        at_resolution(path, 48)
    assert at_resolution(path, 32, side=40)


def test_at_resolution_refuses_foreign_files_and_impossible_sizes(
    float_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"resolution=64 is out of range; expected 1 to 40"):
        at_resolution(float_file, 64, side=40)
    foreign = read_model(float_file)
    del foreign.metadata_props[:]
    with pytest.raises(ArtefactError, match="the model was not written by pocketvision"):
        at_resolution(foreign, 64)
    with pytest.raises(ArtefactError, match="does not exist"):
        at_resolution(tmp_path / "none.onnx", 64)
