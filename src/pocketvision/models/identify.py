"""Which network weights belong to, told by the names and shapes of their tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pocketvision.budget import count_of
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Attentive, Network
from pocketvision.models.checkpoint import Checkpoint, Difference
from pocketvision.models.editing import with_attention
from pocketvision.models.foreign import (
    CLASSIFIER,
    COUNT,
    STEM,
    Style,
    adapted,
    style_of,
    translate,
)
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from pocketvision.nn.conv import ConvSpec

HEAD = "head."
ATTENTION = ".reduce."  # in our names of the tensors of any attention
ADDED = ("se", "cbam")  # that any network may have been given
TRIED = 6  # networks that are compared tensor by tensor


def our_state(
    checkpoint: Checkpoint, style: Style | None, spec: ArchSpec, expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The checkpoint's tensors under the names of the network that `expected` is the state of.

    Floating ones become float32; counters of batch norms that are left out begin at 0. A network of
    one input channel gets the sum over the channels of the stem, so that a grey image gives what it
    gave as three equal channels.
    """
    state = {name: _cast(name, tensor) for name, tensor in checkpoint.state.items()}
    if style is not None:
        state = translate(state, style, spec, expected) if style.suits(spec.name) else state
    for name, place in expected.items():
        if name.endswith(COUNT) and name not in state:
            state[name] = torch.zeros(place.shape, dtype=place.dtype)
    stem = state.get(STEM)
    if stem is None or spec.in_chans != 1 or stem.ndim != 4 or stem.shape[1] == 1:
        return state
    return {**state, STEM: stem.sum(1, keepdim=True)}


def _cast(name: str, tensor: Tensor) -> Tensor:
    """Of the type that networks here have; what was never floating stays as it is."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.int64 if name.endswith(COUNT) else torch.float32)


def identify(
    checkpoint: Checkpoint, *, name: str | None = None, width: float | None = None
) -> ArchSpec | None:
    """The registry's network whose tensors these are, with the file's classes and input channels.

    Where heads differ in more than the classes, a network whose body fits will do; where none fits,
    one that was given attention. name, width: look at these networks only. None: no network fits.
    """
    style = style_of(checkpoint.state, checkpoint.path.name)
    specs = list(candidates(style, name, width))
    found = _fitting(checkpoint, style, specs)
    if found is None and any(ATTENTION in place for place in checkpoint.state):
        found = _fitting(checkpoint, style, _attended(specs))
    return found


def _fitting(
    checkpoint: Checkpoint, style: Style | None, specs: Iterable[ArchSpec]
) -> ArchSpec | None:
    similar = None
    for spec in _alike(checkpoint, specs):
        found, difference = _tried(checkpoint, style, spec)
        if not difference.names:
            return found
        if similar is None and difference.only_in(HEAD):
            similar = found
    return similar


def nearest(checkpoint: Checkpoint) -> tuple[ArchSpec, int] | None:
    """The registry's network that differs in the fewest tensors, and in how many.

    None where even that differs in more than half of them.
    """
    style = style_of(checkpoint.state, checkpoint.path.name)
    tried = [_tried(checkpoint, style, spec) for spec in _alike(checkpoint, candidates(style))]
    if not tried:
        return None
    spec, difference = min(tried, key=lambda found: len(found[1].names))
    count = len(difference.names)
    return (spec, count) if count <= len(checkpoint.state) / 2 else None


def hint(checkpoint: Checkpoint, style: Style | None, asked: ArchSpec | None = None) -> str:
    """What the weights are of, as far as the registry knows it: the end of an error message.

    asked: the network that they do not fit; None: none was named.
    """
    names = f" The file has {style} names." if style else ""
    if asked is not None:
        fitting, difference = _tried(checkpoint, style, asked)
        if difference.only_in(HEAD):  # once it has the file's channels
            n = fitting.in_chans
            grey = " (or 1, whose stem is summed)" if n > 1 else ""
            return f"{names} The file is for {count_of(n, 'channel')}; pass in_chans={n}{grey}."
    found = identify(checkpoint)
    if found is not None:
        variant = f" ({found.variant})" if found.variant else ""
        return f"{names} These look like {found.name}{variant} x{found.width:g}: ask for that."
    closest = nearest(checkpoint)
    if closest is None:
        return f"{names} No network of the registry is like it."
    spec, count = closest
    return (
        f"{names} The nearest network of the registry is {spec.name} x{spec.width:g}, from which "
        f"{count} tensors differ."
    )


def _attended(specs: Iterable[ArchSpec]) -> Iterator[ArchSpec]:
    for spec in specs:
        if any(isinstance(block, Attentive) for block in spec.blocks):
            yield from (with_attention(spec, name) for name in ADDED)


def _alike(checkpoint: Checkpoint, specs: Iterable[ArchSpec]) -> list[ArchSpec]:
    """The few whose layers have most nearly the file's widths: building all takes many seconds."""
    widths = Counter(tensor.shape[0] for tensor in checkpoint.state.values() if tensor.ndim > 1)

    def distance(spec: ArchSpec) -> int:
        own = Counter(layer.c_out for layer in spec.layers())
        return ((widths - own) + (own - widths)).total()

    return sorted(specs, key=distance)[:TRIED]


def candidates(
    style: Style | None, name: str | None = None, width: float | None = None
) -> Iterator[ArchSpec]:
    """Networks of the registry that may have this style's names, as the library has them."""
    seen: list[ArchSpec] = []
    for spec in _registered(style, name, width):
        known = adapted(spec, style) if style else spec
        if known not in seen and name in (None, spec.name) and width in (None, spec.width):
            seen.append(known)
            yield known


def _registered(style: Style | None, name: str | None, width: float | None) -> Iterator[ArchSpec]:
    names = [ours for ours in registry.MODELS if name in (None, ours)]
    for ours in [ours for ours in names if style is None or style.suits(ours)]:
        widths = registry.widths(ours) if width is None else (width,)
        for each in widths:
            yield registry.spec(ours, width=None if each == 1 else each)
        if style is not None and style.library == "torchvision":
            builders = {
                "mobilenet_v3_large": mobilenet_v3_large,
                "mobilenet_v3_small": mobilenet_v3_small,
            }
            if builder := builders.get(ours):
                yield from (builder(width=each, width_rule="torchvision") for each in widths)
    for alias, (ours, _) in registry.ALIASES.items():
        if ours in names and (style is None or style.suits(ours)):
            yield registry.spec(alias)


def _tried(
    checkpoint: Checkpoint, style: Style | None, spec: ArchSpec
) -> tuple[ArchSpec, Difference]:
    """The network with the file's classes and input channels, and what still differs."""
    with torch.device("meta"):
        expected = Network(spec).state_dict()
    state = our_state(checkpoint, style, spec, expected)
    classifier, stem = state.get(f"{CLASSIFIER}.weight"), state.get(STEM)
    if classifier is not None and classifier.ndim == 2:
        spec = spec.with_classes(len(classifier))
        for leaf in ("weight", "bias"):
            place = f"{CLASSIFIER}.{leaf}"
            rows = torch.empty(len(classifier), *expected[place].shape[1:], device="meta")
            expected[place] = rows
    if stem is not None and stem.ndim == 4:
        spec = with_channels(spec, stem.shape[1])
        shape = expected[STEM].shape
        expected[STEM] = torch.empty(shape[0], stem.shape[1], *shape[2:], device="meta")
    return spec, Difference.between(state, expected)


def with_channels(spec: ArchSpec, in_chans: int) -> ArchSpec:
    """The same network for images of another number of channels."""
    stem, *rest = spec.blocks
    assert isinstance(stem, ConvSpec)  # every network of the registry begins with one
    blocks = (replace(stem, c_in=in_chans), *rest)
    return replace(spec, in_chans=in_chans, blocks=blocks)
