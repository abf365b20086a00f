"""The widths of a patch classifier that can be changed, and the weights that follow each.

A patch classifier is one line of layers, so a width is one wire: what writes it and what reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pocketvision.errors import ConfigError
from pocketvision.models.patch import PatchSpec, PlaneSpec
from pocketvision.models.width_groups import VARIANT, GroupKind, WidthGroup
from pocketvision.nn.attention import CbamSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.volume import VolumeSpec

INPUT = "input"


@dataclass(kw_only=True, slots=True)
class Wire:
    """Channels, and the tensors of the state dict that have them.

    writers: weights whose rows make them; residual sums have several. followers: tensors whose rows
    go with them otherwise: biases, depthwise filters, gates. readers: weights that read them, and
    how many columns side by side belong to each channel. means: kernels of CBAM, whose first column
    reads the mean over them.
    """

    name: str
    kind: GroupKind
    width: int
    writers: list[str] = field(default_factory=list)
    followers: list[str] = field(default_factory=list)
    readers: list[tuple[str, int]] = field(default_factory=list)
    means: list[str] = field(default_factory=list)

    def written_by(self, path: str, bias: bool = True) -> None:
        """A layer makes these channels."""
        self.writers.append(f"{path}.weight")
        if bias:
            self.followers.append(f"{path}.bias")

    def read_by(self, path: str, columns: int = 1) -> None:
        """A layer reads these channels."""
        self.readers.append((f"{path}.weight", columns))


def wires(spec: PatchSpec) -> tuple[Wire, ...]:
    """All widths of `spec` that can be changed, from input to output."""
    found = _Wiring()
    for index, volume in enumerate(spec.volumes):
        found.layer(f"volumes.{index}.output", f"volumes.{index}.conv", volume.c_out)
    if spec.volumes:
        found.columns = spec.planes[0].c_in // spec.volumes[-1].c_out  # the bands of each channel
    for index, plane in enumerate(spec.planes):
        found.plane(f"planes.{index}", plane)
    found.attention(spec)
    found.columns = spec.head.size**2
    for index, width in enumerate(spec.head.hidden):
        found.layer(f"head.hidden.{index}", f"head.hidden.{index}", width, "hidden")
    found.last.read_by("head.classifier", found.columns)
    return tuple(wire for wire in found.made if wire.name != INPUT)


class _Wiring:
    """One walk along the layers. columns: of the next reader, for each channel of the last wire."""

    def __init__(self) -> None:
        self.made = [Wire(name=INPUT, kind="bottleneck", width=1)]
        self.columns = 1

    @property
    def last(self) -> Wire:
        return self.made[-1]

    def layer(self, name: str, path: str, width: int, kind: GroupKind = "bottleneck") -> None:
        """A layer reads the last wire and writes the next."""
        self.last.read_by(path, self.columns)
        self.made.append(Wire(name=name, kind=kind, width=width))
        self.last.written_by(path)
        self.columns = 1

    def plane(self, place: str, plane: PlaneSpec) -> None:
        if isinstance(plane, ConvSpec):
            self.layer(f"{place}.output", f"{place}.conv", plane.c_out)
            return
        outer = self.last
        if plane.expand is not None:
            self.layer(f"{place}.expansion", f"{place}.expand.conv", plane.c_mid, "expansion")
        depthwise = f"{place}.depthwise.conv"
        self.last.followers += [f"{depthwise}.weight", f"{depthwise}.bias"]
        project = f"{place}.project.conv"
        if not plane.has_skip:
            self.layer(f"{place}.output", project, plane.c_out)
            return
        self.last.read_by(project, self.columns)
        self.made.append(self.made.pop(self.made.index(outer)))  # the sum is its wire again
        outer.written_by(project)

    def attention(self, spec: PatchSpec) -> None:
        attention, outer = spec.head.attention, self.last
        if attention is None:
            return
        reduce, expand, bias = "head.attention.reduce", "head.attention.expand", attention.bias
        outer.read_by(reduce)
        squeeze = Wire(name="head.squeeze", kind="squeeze", width=attention.squeezed)
        squeeze.written_by(reduce, bias)
        squeeze.read_by(expand)
        outer.followers += [f"{expand}.weight", *([f"{expand}.bias"] if bias else [])]
        if isinstance(attention, CbamSpec):
            outer.means.append("head.attention.spatial.weight")
        self.made.insert(-1, squeeze)


def patch_groups(spec: PatchSpec) -> tuple[WidthGroup, ...]:
    """All widths of `spec` that can be changed."""
    return tuple(WidthGroup(name=w.name, kind=w.kind, width=w.width) for w in wires(spec))


def narrower_patch(spec: PatchSpec, group: WidthGroup, width: int) -> PatchSpec:
    """`spec` with a smaller width for `group`, and for all that follows it.

    Raises: ConfigError: a group that is not of `spec`; a width outside 1 to the present one, or
        one that takes an expansion away or adds a shortcut, since two widths would be equal.
    """
    check_patch_member(spec, group)
    if not 1 <= width <= group.width:
        raise ConfigError(
            f"width={width} is out of range for {group.name} of {spec.label}; expected 1 to "
            f"{group.width}."
        )
    if width == group.width:
        return spec
    if not keeps_layers(spec, group, width):
        raise ConfigError(
            f"{group.name} of {spec.label} cannot be {width} wide: two of its widths would be "
            "equal, which adds a shortcut or takes an expansion away. Take another width."
        )
    return _resized(spec, {group.name: width})


def check_patch_member(spec: PatchSpec, group: WidthGroup) -> None:
    """Raises: ConfigError: a group that is not of `spec`."""
    names = {one.name: one.width for one in patch_groups(spec)}
    if names.get(group.name) != group.width:
        raise ConfigError(
            f"{group.name} of width {group.width} is no group of {spec.label}; it has "
            f"{', '.join(f'{name} ({width})' for name, width in names.items())}."
        )


def keeps_layers(spec: PatchSpec, group: WidthGroup, width: int) -> bool:
    """Whether `narrower_patch` takes a width, 1 to the present one."""
    changed = _resized(spec, {group.name: width})
    return [w.writers for w in wires(changed)] == [w.writers for w in wires(spec)]


def _resized(spec: PatchSpec, widths: Mapping[str, int]) -> PatchSpec:
    """widths: those that change, by the names of their groups."""
    channels, volumes = 1, list[VolumeSpec]()
    for index, volume in enumerate(spec.volumes):
        c_out = widths.get(f"volumes.{index}.output", volume.c_out)
        volumes.append(replace(volume, c_in=channels, c_out=c_out))
        channels = c_out
    first = spec.planes[0].c_in
    channels = channels * (first // spec.volumes[-1].c_out) if volumes else first
    planes = _planes(spec.planes, channels, widths)
    attention = spec.head.attention
    if attention is not None:
        squeezed = widths.get("head.squeeze", attention.squeezed)
        attention = replace(attention, squeezed=squeezed)
    head = replace(
        spec.head,
        c_in=planes[-1].c_out,
        hidden=tuple(
            widths.get(f"head.hidden.{index}", width)
            for index, width in enumerate(spec.head.hidden)
        ),
        attention=attention,
    )
    return replace(spec, volumes=tuple(volumes), planes=planes, head=head, variant=VARIANT)


def _planes(
    planes: Sequence[PlaneSpec], channels: int, widths: Mapping[str, int]
) -> tuple[PlaneSpec, ...]:
    made: list[PlaneSpec] = []
    for index, plane in enumerate(planes):
        c_out = widths.get(f"planes.{index}.output", plane.c_out)
        if isinstance(plane, ConvSpec):
            made.append(replace(plane, c_in=channels, c_out=c_out))
        else:
            c_mid = widths.get(f"planes.{index}.expansion", plane.c_mid)
            made.append(
                replace(
                    plane,
                    c_in=channels,
                    c_mid=channels if plane.expand is None else c_mid,
                    c_out=channels if plane.has_skip else c_out,
                )
            )
        channels = made[-1].c_out
    return tuple(made)
