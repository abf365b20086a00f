"""Latency of whole networks as the sum of their blocks, each timed inside a small network.

A block in a file of its own would be timed with what it costs to bring its tensors in and out, and
in INT8 to quantize them, which no block inside a network pays. So it is timed in a carrier: pixels,
a 1x1 convolution to the channels the block takes, the block, a pool and two logits; and what the
carrier takes without the block is taken off. What that leaves wrong at the pool of one block, the
next makes good, so a sum over a whole network is only wrong at its ends.

The head of a segmenter or detector is timed on maps of the channels and sizes it takes, which some
1x1 convolutions make of the pixels; what these take without it is taken off.

A block may take more inside a whole network than in a carrier that runs again and again; by how
much, whole networks tell.

Source of the table: Yang et al., NetAdapt, section 3.3 and Fig. 3; Howard et al., Searching for
MobileNetV3, section 4. Latencies there are sums over layers timed by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pocketvision.budget import count_of
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.measure.fitted_sums import Whole, best_fit, left_out
from pocketvision.models.arch import ArchSpec, BlockSpec
from pocketvision.models.detector import DetectorSpec
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import LayerForm
from pocketvision.models.taps import Tap, channels_at, stride_at
from pocketvision.nn.blocks import InvertedResidualSpec, SeparableSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.record.timing import Latency, Machine
from pocketvision.record.words import Precision

SCHEMA_VERSION = 4  # 3 added `scenes`, 4 `layers`; 2 and 3 are still read
CHECKING = 3  # whole networks, from which on they check a table
CARRIER = "carrier"
LOGITS = 2  # of a carrier: a head that costs nothing
HALVING = 8  # channels on the way to the first map of a head
NORM = "norm"  # folded into the convolution before it
UNTIMED = (NORM, "name", "variant", "width")
WIDTHS = ("c_in", "c_mid", "c_out", "squeezed", "hidden", "num_classes")
HEAD_WIDTHS = ("filters", "c_low", "c_high", "c_maps", "extras")

Form = Hashable


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A network and its latency."""

    network: AnySpec
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedDense:
    """A segmenter or detector, whole, and its latency."""

    network: DenseSpec
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedScene:
    """A network for scenes as a file, and its latency for one pixel from its window.

    bands: of the raw spectra that the file takes; those of the network are fewer.
    """

    network: PatchSpec
    bands: int
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedLayer:
    """One layer of networks for scenes as a file of its own, and its latency."""

    form: LayerForm
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTable:
    """table.json: what was timed on one device with one runtime, precision and number of threads.

    carriers: of the blocks, and of the heads of segmenters and detectors. wholes: whole networks,
    which set the sums right and check them; dense: so do these of segmenters and detectors. scenes:
    whole networks for hyperspectral scenes; layers: of these and of narrower forms.
    anchor_ms: what the network took that all of them were timed beside; None: none was.
    """

    schema_version: int = SCHEMA_VERSION
    machine: Machine
    runtime: str
    precision: Precision
    threads: int
    carriers: tuple[Timed, ...]
    wholes: tuple[Timed, ...] = ()
    dense: tuple[TimedDense, ...] = ()
    scenes: tuple[TimedScene, ...] = ()
    layers: tuple[TimedLayer, ...] = ()
    anchor_ms: float | None = None

    @property
    def described(self) -> str:
        """'onnxruntime int8, 1 thread, on AMD EPYC' for messages."""
        threads = count_of(self.threads, "thread")
        return f"{self.runtime} {self.precision}, {threads}, on {self.machine.cpu}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableCheck:
    """Sums of the table against whole networks, none of which set its own sum right.

    Errors are shares of the measured latency; rank_correlation is Spearman's, None where it is not
    known (see `rank_correlation`).
    """

    n: int
    median_error: float
    worst_error: float
    rank_correlation: float | None


def terms(spec: AnySpec) -> Counter[AnySpec]:
    """The carriers of a network, and how often each is added to its latency (or taken off)."""
    first, *rest = _blocks_of(spec)
    side = first.out_size((spec.resolution, spec.resolution))[0]
    parts = Counter[AnySpec]([_carrier((first,), spec.in_chans, spec.resolution)])
    for block in rest:
        parts[_carrier((_entry(block.c_in), block), 3, side)] += 1
        parts[_carrier((_entry(block.c_in),), 3, side)] -= 1
        side = block.out_size((side, side))[0]
    if isinstance(spec, ArchSpec):
        empty = _carrier((_entry(spec.head.c_in),), 3, side)
        parts[replace(empty, head=spec.head)] += 1
    else:
        empty, taps = _maps_alone(spec)
        parts[_with_head(spec, empty, taps)] += 1
    parts[empty] -= 1
    return Counter({carrier: times for carrier, times in parts.items() if times})


def _blocks_of(spec: AnySpec) -> Sequence[BlockSpec]:
    """Those of a classifier, and of a segmenter or detector but for its head."""
    return spec.blocks if isinstance(spec, ArchSpec) else spec.body_blocks


def _maps_alone(spec: DenseSpec) -> tuple[ArchSpec, list[Tap]]:
    """Pixels to the maps that a head sees, one made of the other, and where they are."""
    body = spec.backbone if isinstance(spec, DetectorSpec) else spec.body
    blocks, taps, reached = list[BlockSpec](), list[Tap](), 1
    for tap in spec.taps:
        stride, width = stride_at(body, tap), channels_at(body, tap)
        while 2 * reached < stride:
            blocks.append(_halved(blocks, HALVING, 2))
            reached *= 2
        blocks.append(_halved(blocks, width, stride // reached))
        taps.append(Tap(block=len(blocks) - 1))
        reached = stride
    return _carrier(tuple(blocks), 3, spec.resolution), taps


def _halved(blocks: Sequence[BlockSpec], channels: int, stride: int) -> ConvSpec:
    c_in = blocks[-1].c_out if blocks else 3
    return replace(_entry(channels), c_in=c_in, stride=stride)


def _with_head(spec: DenseSpec, maps: ArchSpec, taps: Sequence[Tap]) -> DenseSpec:
    """The head of a network on other maps like its own."""
    if isinstance(spec, DetectorSpec):
        return replace(spec, backbone=maps, taps=tuple(taps))
    low = None if spec.low is None else taps[0]
    return replace(spec, backbone=maps, low=low, high=taps[-1])


def _entry(channels: int) -> ConvSpec:
    return ConvSpec(c_in=3, c_out=channels, kernel=1, act="relu")


def _carrier(blocks: tuple[BlockSpec, ...], in_chans: int, side: int) -> ArchSpec:
    return ArchSpec(
        name=CARRIER,
        width=1.0,
        in_chans=in_chans,
        resolution=side,
        blocks=blocks,
        head=ClassifierSpec(c_in=blocks[-1].c_out, num_classes=LOGITS),
    )


class LatencyTable:
    """Sums over a table, set right by its whole networks: `fit`."""

    def __init__(self, table: DeviceTable) -> None:
        self.table = table
        self.medians_ms = {timed.network: timed.latency.median_ms for timed in table.carriers}
        self._alike: dict[Form, list[tuple[int, float]]] = {}
        for network, median_ms in self.medians_ms.items():
            self._alike.setdefault(_form(network), []).append((count(network).macs, median_ms))
        self.fit = best_fit([self.whole(timed) for timed in table.wholes])

    def latency_ms(self, spec: AnySpec) -> float:
        """What `spec` takes. Raises: ConfigError: a block of a form that is not in the table."""
        return self.fit.latency_ms(self.sum_ms(spec), len(_blocks_of(spec)))

    def whole(self, timed: Timed) -> Whole:
        """A whole network beside its plain sum. Raises: as `latency_ms`."""
        return Whole(
            sum_ms=self.sum_ms(timed.network),
            blocks=len(_blocks_of(timed.network)),
            latency_ms=timed.latency.median_ms,
        )

    def sum_ms(self, spec: AnySpec) -> float:
        """The plain sum. Raises: as `latency_ms`."""
        return sum(times * self._median_ms(carrier) for carrier, times in terms(spec).items())

    def _median_ms(self, carrier: AnySpec) -> float:
        """As measured, or between the nearest with less and with more work that differ in widths
        alone. Less work than any that was timed takes no less; more takes more in proportion.
        """
        if carrier in self.medians_ms:
            return self.medians_ms[carrier]
        alike = self._alike.get(_form(carrier))
        if alike is None:
            part = carrier.blocks[-1] if isinstance(carrier, ArchSpec) else carrier.head
            raise ConfigError(
                f"the table ({self.table.described}) holds no {part.kind} of this form at "
                f"{carrier.resolution} px; profile the device again for this network or space: "
                f"{part}."
            )
        macs = count(carrier).macs
        known, times_ms = np.array(sorted(alike)).T
        beyond = max(1.0, macs / known[-1])
        return float(beyond * np.interp(macs, known, times_ms))


def dense_form(spec: DenseSpec) -> Form:
    """What decides how long a segmenter or detector takes: all that is in its file."""
    return _structure(replace(spec, backbone=spec.backbone.with_classes(LOGITS)))


def _structure(value: object) -> Form:
    """All but names, and norms, which files have folded into the convolutions."""
    if not is_dataclass(value):
        return tuple(_structure(item) for item in value) if isinstance(value, tuple) else value
    parts = [_structure(getattr(value, f.name)) for f in fields(value) if f.name not in UNTIMED]
    return (type(value).__name__, *parts)


def _form(value: object) -> Form:
    """What carriers that differ in widths alone have in common."""
    if not is_dataclass(value):
        return tuple(_form(item) for item in value) if isinstance(value, tuple) else value
    found: list[Form] = [type(value).__name__]
    decided = _decided_by_widths(value)
    for field in fields(value):
        if field.name == NORM:
            continue
        if field.name != "skip" or not decided:
            content = getattr(value, field.name)
            is_width = field.name in (*WIDTHS, *HEAD_WIDTHS)
            found.append(_count_of(content) if is_width else _form(content))
    return (*found, *decided)


def _count_of(widths: object) -> int:
    """How many there are: of one there is one, or none."""
    return len(widths) if isinstance(widths, tuple) else int(widths is not None)


def _decided_by_widths(block: object) -> tuple[bool, ...]:
    """Shortcuts and expansions, on which widths decide by how they compare; else empty."""
    if isinstance(block, InvertedResidualSpec):
        return block.has_skip, block.expand is None
    if isinstance(block, ConvSpec | SeparableSpec):
        return ()
    widths = [getattr(block, name, None) for name in ("c_in", "c_mid", "c_out")]
    keeps_size = getattr(block, "stride", 1) == 1
    return widths[0] == widths[1], keeps_size and widths[0] == widths[2]


def of_places(table: DeviceTable) -> DeviceTable:
    """The same with its segmenters and detectors as the whole networks that set the sums right."""
    wholes = (Timed(network=one.network, latency=one.latency) for one in table.dense)
    return replace(table, wholes=tuple(wholes))


def check_table(table: DeviceTable) -> TableCheck:
    """How well sums foretell whole networks, each set right by the others alone.

    Raises: ConfigError: fewer than three whole networks.
    """
    if len(table.wholes) < CHECKING:
        raise ConfigError(
            f"{len(table.wholes)} whole networks cannot check a table; measure three or more."
        )
    sums = LatencyTable(replace(table, wholes=()))
    wholes = [sums.whole(timed) for timed in table.wholes]
    measured, foretold = (np.array(ms) for ms in zip(*left_out(wholes, best_fit), strict=True))
    errors = np.abs(foretold / measured - 1)
    return TableCheck(
        n=len(measured),
        median_error=float(np.median(errors)),
        worst_error=float(errors.max()),
        rank_correlation=rank_correlation(foretold, measured),
    )


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's: Pearson's of ranks, where equal values share the mean of theirs.

    None: fewer than three different values on either side, which no order can be told from.
    """
    if min(len(np.unique(values)) for values in (first, second)) < CHECKING:
        return None
    ranks = [_ranks(values) for values in (first, second)]
    a, b = (values - values.mean() for values in ranks)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,), from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks[places]
