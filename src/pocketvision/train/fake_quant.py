"""Fake quantization: a float network that computes as its INT8 file will, and still learns.

Norms are folded into the convolutions before them. Weights are rounded to integers with one scale
per output channel, activations to 256 integers with a zero point, in all places where ONNX
Runtime's quantizer does so: the traced network is given the same roundings as its graph. Gradients
pass a rounding as if it were not there, and stop where a value is clipped.

Not modelled: what the runtime may do to channels and biases; biases and sums in 32 bits. Pixels are
bytes already and logits stay float.
Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference (2018), section 3.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import eval_batch
from pocketvision.errors import check_shape, in_range
from pocketvision.models.arch import Network
from pocketvision.nn.shuffle import channel_shuffle

N = TypeVar("N", bound=nn.Module)

LEVELS = 256
STEPS = 32  # of the search for a range, along either end
SAMPLED = 16_384  # values of a tensor, from each batch, that its range is sought on
BATCH = 32  # images that are measured at a time
SMALLEST = 1e-12  # peak of a channel or a range; below, it is nothing
LARGEST_WEIGHT = {7: 64, 8: 127}  # by bits, as ONNX Runtime has it

# What gives new values, which are rounded; all else passes on some of what it takes.
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # for the latter there is no integer kernel
LAYERS = (nn.Conv2d, nn.Linear, nn.ReLU, nn.ReLU6, nn.Sigmoid, *POOLS)
ROUNDED = (*LAYERS, operator.add, operator.mul, torch.cat, torch.sigmoid, "mean", "amax")
FUSED = (nn.ReLU, nn.ReLU6)  # become part of what is before them, which is then not rounded
ROUNDING = "rounding."  # how the names of roundings begin


def fold_norms(network: N) -> N:
    """A copy in eval mode, every batch norm behind a convolution folded into it.

    Outputs are those of `network` in eval mode but for rounding. A norm elsewhere stays. The copy
    can be exported and trained, but its tensors are no longer those that a specification names.
    """
    folded = copy.deepcopy(network).eval()
    for parent in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for (name, conv), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                merged = fuse_conv_bn_eval(conv, norm)
                merged.requires_grad_(conv.weight.requires_grad)
                merged.__class__ = nn.Conv2d  # the plain one: others of ours know no bias
                setattr(parent, name, merged)
                delattr(parent, norm_name)
    return folded


class WeightIntegers(nn.Module):
    """Weights as integers with one scale per output channel; a parametrization of `weight`.

    What is learned is the weight in units of the largest that its channels, out and in, began with,
    so that a learning rate means the same to channels of any size.

    Shape:  (C, ...) float -> same.
    Raises: ConfigError: bits other than 7 and 8.
    """

    unit: Tensor

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        in_range("weight_bits", bits, min(LARGEST_WEIGHT), max(LARGEST_WEIGHT))
        self.largest = LARGEST_WEIGHT[bits]
        peaks = _peaks(weight).clamp(min=SMALLEST)
        shares = (weight.detach().abs() / peaks).amax((0, *range(2, weight.ndim)), keepdim=True)
        self.register_buffer("unit", peaks * torch.where(shares > SMALLEST, shares, 1.0))

    def forward(self, learned: Tensor) -> Tensor:
        weight = learned * self.unit
        scale = (_peaks(weight).clamp(min=SMALLEST) / self.largest).flatten()
        zero = torch.zeros_like(scale, dtype=torch.int32)
        ends = -self.largest, self.largest
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, *ends)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is learned, from weights as they are."""
        return weight / self.unit


def _peaks(weight: Tensor) -> Tensor:
    return weight.detach().abs().amax(tuple(range(1, weight.ndim)), keepdim=True)


class Rounding(nn.Module):
    """Activations as 256 integers over a range that holds 0.

    Shape: any float -> same. While `seen` is a list, values pass unchanged and some are kept.
    """

    range: Tensor  # lowest and highest value

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("range", torch.zeros(2))
        self.seen: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.seen is not None:
            self.seen.append(_sample(x.flatten()))
            self.range[0].clamp_(max=x.min())
            self.range[1].clamp_(min=x.max())
            return x
        low, high = self.range.unbind()
        scale = (high - low).clamp(min=SMALLEST) / (LEVELS - 1)
        zero = (-low / scale).round().clamp(0, LEVELS - 1).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, LEVELS - 1)

    def watch(self) -> None:
        """Only look at what comes, until `settle`."""
        self.range.zero_()
        self.seen = []

    def settle(self) -> None:
        """Take the range of least error for what was seen."""
        assert self.seen
        self.range.copy_(least_error_range(torch.cat(self.seen), self.range))
        self.seen = None


def _sample(flat: Tensor) -> Tensor:
    if len(flat) <= SAMPLED:
        return flat.clone()
    places = torch.randint(len(flat), (SAMPLED,), generator=torch.Generator().manual_seed(0))
    return flat[places.to(flat.device)]


def least_error_range(values: Tensor, ends: Tensor) -> Tensor:
    """The range within `ends` that rounds and clips (n,) values with the least squared error.

    ends: (2,), and so is the range; both hold 0. Zeros have no error; the other values are taken to
    spread evenly between two integers.
    """
    shares = torch.linspace(1 / STEPS, 1, STEPS, device=values.device)
    lows, highs = ends[0] * shares, ends[1] * shares
    below = (lows[:, None] - values).clamp_(min=0).square_().sum(1)
    above = (values - highs[:, None]).clamp_(min=0).square_().sum(1)
    steps = (highs[None] - lows[:, None]) / (LEVELS - 1)
    rounded = steps.square() / 12 * values.count_nonzero()
    best = (below[:, None] + above[None] + rounded).argmin()
    return torch.stack([lows[best // STEPS], highs[best % STEPS]])


def integer_gate(x: Tensor) -> Tensor:
    """The hard sigmoid as integers have it. Any float -> same shape, 0..1 in steps of 1/255."""
    return torch.fake_quantize_per_tensor_affine(x, 6 / 255, 128, 0, LEVELS - 1) / 6 + 128 / 255


class FakeQuantized(nn.Module):
    """A folded network, its weights and activations rounded; `fake_quantized` makes one.

    Shape:   as the network's.
    network: holds all that is learned, under the names it has there.
    """

    def __init__(self, folded: Network, weight_bits: int) -> None:
        super().__init__()
        self.spec = folded.spec
        self.network = folded
        parts = dict(folded.named_modules())
        graph = _Tracer(autowrap_functions=(channel_shuffle, check_shape)).trace(folded)
        self.rounding = nn.ModuleDict(_insert_roundings(graph, parts))
        parts |= {f"{ROUNDING}{name}": module for name, module in self.rounding.items()}
        # Hidden from the registry of modules: it has those of `network` and `rounding` only.
        self._body = (fx.GraphModule(parts, graph),)
        for module in parts.values():
            if isinstance(module, nn.Conv2d | nn.Linear):
                integers = WeightIntegers(module.weight, weight_bits)
                parametrize.register_parametrization(module, "weight", integers)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._body[0].forward(x)
        return logits

    def train(self, mode: bool = True) -> FakeQuantized:
        """As any module's, but norms that are left keep their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @torch.no_grad()
    def calibrate(self, pixels: Tensor, preprocessing: Preprocessing) -> None:
        """Set the range of every activation by what the network gives for these images.

        pixels: (N, side, side, 3) uint8, N >= 1. Raises: ConfigError: other pixels.
        """
        eval_batch(pixels[:1], preprocessing)  # refuses others before anything changes
        was_training, roundings = self.training, cast(Iterable[Rounding], self.rounding.values())
        self.eval()
        for rounding in roundings:
            rounding.watch()
        for batch in torch.split(pixels, BATCH):
            self(eval_batch(batch, preprocessing))
        for rounding in roundings:
            rounding.settle()
        self.train(was_training)


def fake_quantized(
    network: Network, pixels: Tensor, preprocessing: Preprocessing, *, weight_bits: int = 8
) -> FakeQuantized:
    """A copy of a trained network that computes as its INT8 file, its ranges set by `pixels`.

    pixels: (N, side, side, 3) uint8, N >= 1. weight_bits: 7 where the processor's products of 8
    bits saturate, else 8.
    Raises: ConfigError: other pixels or bits.
    """
    made = FakeQuantized(fold_norms(network), weight_bits)
    made.calibrate(pixels, preprocessing)
    return made


def strip(network: FakeQuantized) -> Network:
    """The plain folded float network, in eval mode, with the weights that the integers stand for.

    The runtime's quantizer finds the same integers in them again.
    """
    plain = copy.deepcopy(network.network).eval()
    for module in list(plain.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            # torch's own removal would take the property from the class, which copies share.
            weight = module.weight.detach()
            del module.parametrizations
            module.__class__ = type(module).__mro__[1]
            module.weight = nn.Parameter(weight)
    return plain


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(m.children())


def _insert_roundings(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Write roundings and gates into a traced graph; returns the roundings by name."""
    made: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        module = modules.get(str(node.target))
        given = node
        if isinstance(module, nn.Hardswish | nn.Hardsigmoid):
            given = _in_integers(graph, node, module)
        name = _rounding_before(given) if isinstance(module, nn.AvgPool2d) else ""
        if _is_rounded(given, modules):
            made[given.name] = Rounding()
            name = f"{ROUNDING}{given.name}"
        if name:
            with graph.inserting_after(given):
                rounded = graph.call_module(name, (given,))
            given.replace_all_uses_with(rounded, lambda user, own=rounded: user is not own)
    return made


def _rounding_before(node: fx.Node) -> str:
    """The rounding of what a mean pool takes, whose scale it keeps; empty where there is none."""
    while not str(node.target).startswith(ROUNDING):
        if not node.all_input_nodes:
            return ""
        node = node.all_input_nodes[0]
    return str(node.target)


def _in_integers(graph: fx.Graph, node: fx.Node, module: nn.Module) -> fx.Node:
    """A hard sigmoid as the integers have it; a hard swish as its product with what it takes."""
    with graph.inserting_before(node):
        given = graph.call_function(integer_gate, node.args)
        if isinstance(module, nn.Hardswish):
            given = graph.call_function(operator.mul, (*node.args, given))
    node.replace_all_uses_with(given)
    graph.erase_node(node)
    return given


def _is_rounded(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    readers = [modules.get(str(user.target)) for user in node.users]
    if all(isinstance(reader, FUSED) for reader in readers):
        return False
    kind = type(modules[str(node.target)]) if node.op == "call_module" else node.target
    return kind in ROUNDED and any(user.op != "output" for user in node.users)
