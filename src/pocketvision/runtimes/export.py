"""From a PyTorch network to one ONNX file that takes pixels."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.runtimes.graph import copied
from pocketvision.runtimes.onnxfile import (
    ANSWERS,
    INPUT,
    OUTPUT,
    drop_unused_constants,
    metadata,
    read_model,
    set_metadata,
    write_model,
)
from pocketvision.runtimes.resizing import classes_last, fix_scales
from pocketvision.runtimes.runtime import FileCard

BATCH = "batch"

Net = TypeVar("Net", bound=nn.Module)


def export_onnx(network: nn.Module, path: Path, card: FileCard) -> None:
    """Write `network` with its normalisation as one self-contained ONNX file, atomically.

    network: of (N, C, H, W) float normalised, C = 1 or 3, giving logits (N, K), or what
    `models.answering` makes of a segmenter or detector; it is not changed.
    The file: "input" uint8 (batch, H, W, C), RGB or grey pixels -> "logits" float32 (batch, ...),
    and the answers of the card's task (`onnxfile.ANSWERS`), H = W = card.preprocessing.resolution;
    grey takes the mean of the RGB mean and std. The card goes into the metadata.
    Raises: ConfigError: another number of input channels.
    """
    channels = _input_channels(network)
    from_pixels = _FromPixels(network, card.preprocessing, channels)
    resolution = card.preprocessing.resolution
    # Two images: a batch of one would be taken for a constant.
    pixels = torch.zeros(2, resolution, resolution, channels, dtype=torch.uint8)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            from_pixels,
            (pixels,),
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=list(dict.fromkeys((OUTPUT, ANSWERS[card.task]))),
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    finish_export(model, path, card.to_metadata())


def at_resolution(
    source: Path | onnx.ModelProto, resolution: int, side: int | None = None
) -> onnx.ModelProto:
    """The same graph, float or INT8, for images of another resolution.

    side: to which the shorter side is resized first; None: the default for that resolution.
    Raises: ArtefactError: not an exported file, or a graph that works at one resolution only.
    ConfigError: a resolution or side outside what is allowed.
    """
    where = str(source) if isinstance(source, Path) else "the model"
    model = read_model(source) if isinstance(source, Path) else copied(source)
    pairs = metadata(model)
    FileCard.from_metadata(pairs, source=where)
    side = Preprocessing.for_resolution(resolution).side if side is None else side
    Preprocessing(resolution=resolution, side=side)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    axes[1].dim_value = axes[2].dim_value = resolution
    del model.graph.value_info[:]
    _check_shapes(model, where, resolution)
    set_metadata(model, {**pairs, "resolution": str(resolution), "side": str(side)})
    return model


def frozen_copy(network: Net) -> Net:
    """The network as it is exported: a copy on the CPU in float32, in eval mode."""
    frozen = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for tensor in (*frozen.parameters(), *frozen.buffers()):
        # Weights in channels-last order would leave shuffling nodes. Cloned, as contiguous()
        # keeps the strides of 1x1 kernels, which satisfy both orders.
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return frozen


def finish_export(model: onnx.ModelProto, path: Path, card: Mapping[str, str]) -> None:
    """Tidy what the exporter made and write it, atomically, with its card and its producer."""
    _pool_globally(model.graph)
    _drop_notes(model.graph)
    fix_scales(model)
    classes_last(model)
    drop_unused_constants(model.graph)
    version = importlib.metadata.version("pocketvision")
    model.producer_name, model.producer_version = "pocketvision", version
    set_metadata(model, {**card, "producer": f"pocketvision {version}"})
    write_model(model, path)


class _FromPixels(nn.Module):
    """uint8 (N, H, W, C) -> outputs: the network behind its normalisation, ready to be traced."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, channels: int) -> None:
        super().__init__()
        self.network = frozen_copy(network)
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        if channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / std.view(1, -1, 1, 1))
        self.eval()

    def forward(self, pixels: Tensor) -> Any:
        images = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)  # (N, C, H, W)
        return self.network((images - self.mean) * self.scale)


def _input_channels(network: nn.Module) -> int:
    spec = getattr(getattr(network, "network", network), "spec", None)
    channels = 3 if spec is None else int(spec.in_chans)
    if channels not in (1, 3):
        raise ConfigError(f"in_chans={channels} cannot be exported; expected 1 (grey) or 3 (RGB).")
    return channels


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says on every call and a user can do nothing about."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed.")

    logger.addFilter(keep)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore",
                message=r"`isinstance\(treespec, LeafSpec\)` is deprecated",
                category=FutureWarning,
                module="copyreg",
            )
            yield
    finally:
        logger.removeFilter(keep)


def _drop_notes(graph: onnx.GraphProto) -> None:
    """Drop what the exporter notes on every node: source lines, paths and scopes of its caller."""
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        del item.metadata_props[:]
        item.doc_string = ""
    # Shapes inside the graph follow from the input's, and would contradict `at_resolution`.
    del graph.value_info[:]


def _pool_globally(graph: onnx.GraphProto) -> None:
    """ReduceMean over H and W -> GlobalAveragePool, which quantized kernels exist for."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        axes = numpy_helper.to_array(constants[node.input[1]])
        if ranks.get(node.input[0]) != 4 or sorted(axes % 4) != [2, 3]:
            continue
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
        new = [onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name)]
        if not keeps:
            name = f"{node.name}_flatten"
            new.append(onnx.helper.make_node("Flatten", [pooled], [node.output[0]], name, axis=1))
        del graph.node[index]
        for offset, replacement in enumerate(new):
            graph.node.insert(index + offset, replacement)
    drop_unused_constants(graph)


def _check_shapes(model: onnx.ModelProto, where: str, resolution: int) -> None:
    """Infer every shape for one image: a graph with its resolution written into it fails."""
    single = copied(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    try:
        onnx.shape_inference.infer_shapes(single, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtefactError(
            f"{where} cannot work at resolution {resolution}; export the network again at that "
            f"resolution ({reason})"
        ) from error
