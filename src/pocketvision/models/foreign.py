"""Names that torchvision and timm give the tensors of the networks here, family by family.

A family's file is known by one name that no other has. Its rule walks a specification and pairs
every module that holds tensors, as it is called here, with what the library calls it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from pocketvision.models.arch import ArchSpec, BlockSpec
from pocketvision.nn.blocks import InvertedResidualSpec, SeparableSpec
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec
from pocketvision.nn.residual import BottleneckSpec

Pairs = Iterator[tuple[str, str]]  # module here, module there

STEM = "blocks.0.conv.weight"
CLASSIFIER = "head.classifier"
COUNT = "num_batches_tracked"  # of a batch norm; nothing that is trained, and often left out

# Blocks in each of timm's stages, "blocks.S.I" there.
TIMM_STAGES = {
    "mobilenet_v1": (1, 2, 2, 6, 2),
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "mobilenet_v3_large": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small": (1, 2, 3, 2, 3),
    "mnasnet_a1": (1, 2, 3, 4, 2, 3, 1),
}


class Style(NamedTuple):
    """How one library names the tensors of one family of networks.

    mark: a name that only these files have. names: the registry's names that the rule is for, as
    shell patterns. norm: the constants of the batch norms these weights were trained with.
    """

    library: str
    family: str
    mark: str
    names: tuple[str, ...]
    rule: Callable[[ArchSpec], Pairs]
    norm: BatchNormSpec = DEFAULT_NORM

    def suits(self, name: str) -> bool:
        """True if the rule is for the registry's network `name`."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)

    def __str__(self) -> str:
        return f"{self.library}'s {self.family}"


def style_of(state: dict[str, Tensor], file_name: str = "") -> Style | None:
    """The library and family whose names these are; None for names of this package, or unknown.

    file_name: where the names are timm's, tells weights that were ported from TensorFlow.
    """
    style = next((style for style in STYLES if style.mark in state), None)
    if style is not TIMM:
        return style
    # Without squeeze-and-excitation there are only ported ones, the minimalistic networks.
    is_minimalistic = "conv_head.bias" in state and not any(".se." in name for name in state)
    return TIMM_PORTED if file_name.startswith("tf_") or is_minimalistic else TIMM


def style_for(library: str, name: str) -> Style:
    """How a library names the tensors of the registry's network `name`, one that it has."""
    suited = [style for style in (*STYLES, TIMM_PORTED) if style.suits(name)]
    return next((style for style in suited if style.library == library), suited[0])


def with_norm(spec: ArchSpec, norm: BatchNormSpec) -> ArchSpec:
    """The same network with other constants in all of its batch norms."""
    blocks = tuple(
        replace(block, norm=norm) if _norm(block) else block  # type: ignore[arg-type]  # pools have no norm
        for block in spec.blocks
    )
    return replace(spec, blocks=blocks)


def norm_of(spec: ArchSpec) -> BatchNormSpec | None:
    """The constants of its first batch norm; None if it has none."""
    return next(filter(None, map(_norm, spec.blocks)), None)


def _norm(block: BlockSpec) -> BatchNormSpec | None:
    """None too for blocks whose constants lie deeper, as in the Inception units."""
    return getattr(block, "norm", None)


def adapted(spec: ArchSpec, style: Style) -> ArchSpec:
    """The network as the library has it, where its weights depend on what no name or shape shows.

    The constants of the batch norms; ReLU6 in timm's MobileNetV1; the stride of a bottleneck in its
    3x3 convolution.
    """
    blocks = tuple(_as_theirs(block, style, spec.name) for block in spec.blocks)
    variant = "relu6" if blocks != spec.blocks and spec.name == "mobilenet_v1" else spec.variant
    return with_norm(replace(spec, blocks=blocks, variant=variant), style.norm)


def _as_theirs(block: BlockSpec, style: Style, name: str) -> BlockSpec:
    if style.library == "timm" and name == "mobilenet_v1":
        assert isinstance(block, ConvSpec | SeparableSpec)
        return replace(block, act="relu6")
    if style.rule is _resnet and isinstance(block, BottleneckSpec):
        return replace(block, stride_at="3x3")
    return block


def translate(
    state: dict[str, Tensor], style: Style, spec: ArchSpec, expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors under this package's names; those without a place keep the name they have.

    Dimensions of 1 come and go as `expected` has them (a linear layer here, a 1x1 convolution
    there).
    """
    return renamed(state, dict(style.rule(spec)), expected)


def renamed(
    state: dict[str, Tensor], theirs: dict[str, str], expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """As `translate`; theirs: module here -> module there."""
    remaining, translated = dict(state), {}
    for name, place in expected.items():
        module, _, leaf = name.rpartition(".")
        tensor = remaining.pop(f"{theirs.get(module, module)}.{leaf}", None)
        if tensor is not None:
            same = [n for n in tensor.shape if n != 1] == [n for n in place.shape if n != 1]
            translated[name] = tensor.reshape(place.shape) if same else tensor
    return {**translated, **remaining}


def _conv(ours: str, conv: str, norm: str) -> Pairs:
    yield f"{ours}.conv", conv
    yield f"{ours}.norm", norm


def _gate(block: object, ours: str, reduce: str, expand: str) -> Pairs:
    if getattr(block, "attention", None) is not None:
        yield f"{ours}.attention.reduce", reduce
        yield f"{ours}.attention.expand", expand


def _torchvision_v2(spec: ArchSpec) -> Pairs:
    for index, block in enumerate(spec.blocks):
        ours, theirs = f"blocks.{index}", f"features.{index}"
        if isinstance(block, ConvSpec):
            yield from _conv(ours, f"{theirs}.0", f"{theirs}.1")
        elif isinstance(block, InvertedResidualSpec):
            layers = ["expand", "depthwise"] if block.expand else ["depthwise"]
            for place, layer in enumerate(layers):
                conv = f"{theirs}.conv.{place}"
                yield from _conv(f"{ours}.{layer}", f"{conv}.0", f"{conv}.1")
            last = len(layers)  # the projection has no activation, and lies there unpacked
            project = f"{theirs}.conv.{last}", f"{theirs}.conv.{last + 1}"
            yield from _conv(f"{ours}.project", *project)
    yield CLASSIFIER, "classifier.1"


def _torchvision_v3(spec: ArchSpec) -> Pairs:
    for index, block in enumerate(spec.blocks):
        yield from torchvision_v3_block(block, f"blocks.{index}", f"features.{index}")
    yield "head.hidden", "classifier.0"
    yield CLASSIFIER, "classifier.3"


def torchvision_v3_block(block: BlockSpec, ours: str, theirs: str) -> Pairs:
    """The modules of one block of torchvision's MobileNetV3."""
    if isinstance(block, ConvSpec):
        yield from conv_pair(ours, theirs)
    elif isinstance(block, InvertedResidualSpec):
        for place, layer in enumerate(torchvision_v3_layers(block)):
            yield from torchvision_v3_layer(block, layer, ours, f"{theirs}.block.{place}")


def torchvision_v3_layers(block: InvertedResidualSpec) -> list[str]:
    """The parts of an inverted residual, in their order there."""
    layers = ["expand"] if block.expand else []
    layers += ["depthwise", "attention"] if block.attention else ["depthwise"]
    return [*layers, "project"]


def torchvision_v3_layer(block: InvertedResidualSpec, layer: str, ours: str, theirs: str) -> Pairs:
    """The modules of one of these parts."""
    if layer == "attention":
        yield from _gate(block, ours, f"{theirs}.fc1", f"{theirs}.fc2")
    else:
        yield from conv_pair(f"{ours}.{layer}", theirs)


def conv_pair(ours: str, theirs: str) -> Pairs:
    """A convolution and its norm, which torchvision numbers."""
    yield from _conv(ours, f"{theirs}.0", f"{theirs}.1")


def _timm_mobilenet(spec: ArchSpec) -> Pairs:
    stages = TIMM_STAGES[spec.name.removesuffix("_minimalistic")]
    places = [f"blocks.{s}.{i}" for s, units in enumerate(stages) for i in range(units)]
    yield from _conv("blocks.0", "conv_stem", "bn1")
    for index, (block, theirs) in enumerate(zip(spec.blocks[1:], places, strict=False), start=1):
        yield from _timm_block(block, f"blocks.{index}", theirs)
    last = f"blocks.{len(spec.blocks) - 1}"
    if spec.head.hidden:  # MobileNetV3: one more stage, and the head behind the pool
        theirs = f"blocks.{len(stages)}.0"
        yield from _conv(last, f"{theirs}.conv", f"{theirs}.bn1")
        yield "head.hidden", "conv_head"
    elif len(spec.blocks) == len(places) + 2:
        yield from _conv(last, "conv_head", "bn2")
    yield CLASSIFIER, "classifier"


def _timm_block(block: BlockSpec, ours: str, theirs: str) -> Pairs:
    if isinstance(block, InvertedResidualSpec) and block.expand:
        layers = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    elif isinstance(block, SeparableSpec):
        layers = {"depthwise": "conv_dw", "pointwise": "conv_pw"}
    else:
        layers = {"depthwise": "conv_dw", "project": "conv_pw"}
    for number, (layer, conv) in enumerate(layers.items(), start=1):
        yield from _conv(f"{ours}.{layer}", f"{theirs}.{conv}", f"{theirs}.bn{number}")
    yield from _gate(block, ours, f"{theirs}.se.conv_reduce", f"{theirs}.se.conv_expand")


def _resnet(spec: ArchSpec) -> Pairs:
    yield from _conv("blocks.0", "conv1", "bn1")
    layer, unit = 0, 0
    for index, block in enumerate(spec.blocks[2:], start=2):  # behind stem and pool
        if layer == 0 or block.stride == 2:
            layer, unit = layer + 1, 0
        ours, theirs = f"blocks.{index}", f"layer{layer}.{unit}"
        for number, _ in enumerate(getattr(block, "branch", ())):
            names = f"{theirs}.conv{number + 1}", f"{theirs}.bn{number + 1}"
            yield from _conv(f"{ours}.branch.{number}", *names)
        yield from _gate(block, ours, f"{theirs}.se.fc1", f"{theirs}.se.fc2")
        yield from _conv(f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
        unit += 1
    yield CLASSIFIER, "fc"


def _shufflenet_v2(spec: ArchSpec) -> Pairs:
    yield from _conv("blocks.0", "conv1.0", "conv1.1")
    stage, unit, last = 1, 0, len(spec.blocks) - 1
    for index, block in enumerate(spec.blocks[2:last], start=2):  # behind stem and pool
        if block.stride == 2:
            stage, unit = stage + 1, 0
        ours, theirs = f"blocks.{index}", f"stage{stage}.{unit}"
        for branch, places in (("shortcut", (0, 2)), ("branch", (0, 3, 5))):
            path = f"{theirs}.branch{1 if branch == 'shortcut' else 2}"
            for number, place in enumerate(places):
                names = f"{path}.{place}", f"{path}.{place + 1}"
                yield from _conv(f"{ours}.{branch}.{number}", *names)
        unit += 1
    yield from _conv(f"blocks.{last}", "conv5.0", "conv5.1")
    yield CLASSIFIER, "fc"


V3_NORM = BatchNormSpec(eps=1e-3, momentum=0.01)  # torchvision's MobileNetV3, as its authors'
TIMM = Style(
    library="timm",
    family="MobileNet",
    mark="conv_stem.weight",
    names=(
        "mobilenet_v1",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "mobilenet_v3_small",
        "mnasnet_a1",
    ),
    rule=_timm_mobilenet,
)
TIMM_PORTED = TIMM._replace(
    family="MobileNet ported from TensorFlow",
    names=(*TIMM.names, "mobilenet_v3_*_minimalistic"),
    norm=BatchNormSpec(eps=1e-3, momentum=0.1),
)

STYLES = (
    Style(
        library="torchvision",
        family="MobileNetV2",
        mark="features.1.conv.0.0.weight",
        names=("mobilenet_v2",),
        rule=_torchvision_v2,
    ),
    Style(
        library="torchvision",
        family="MobileNetV3",
        mark="features.1.block.0.0.weight",
        names=("mobilenet_v3_large", "mobilenet_v3_small"),
        rule=_torchvision_v3,
        norm=V3_NORM,
    ),
    TIMM,
    Style(
        library="timm",
        family="SE-ResNet",
        mark="layer1.0.se.fc1.weight",
        names=("se_resnet*",),
        rule=_resnet,
    ),
    Style(
        library="torchvision or timm",
        family="ResNet",
        mark="layer1.0.conv1.weight",
        names=("resnet*",),
        rule=_resnet,
    ),
    Style(
        library="torchvision",
        family="ShuffleNetV2",
        mark="stage2.0.branch2.0.weight",
        names=("shufflenet_v2_*",),
        rule=_shufflenet_v2,
    ),
)
