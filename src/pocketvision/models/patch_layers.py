"""The layers of patch classifiers as the dense file has them, one by one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from pocketvision.models.patch import PatchSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerForm:
    """A convolution as a runtime sees it, without padding. side, kernel: of input and filter."""

    batch: int = 1
    c_in: int
    c_out: int
    side: int
    kernel: int
    groups: int = 1

    @property
    def in_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return self.batch, self.c_in, self.side, self.side

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        weights = self.c_out * self.c_in // self.groups * self.kernel**2
        return self.batch * weights * (self.side - self.kernel + 1) ** 2

    @property
    def alike(self) -> Hashable:
        """What forms that differ in widths alone have in common."""
        return self.batch, self.side, self.kernel, self.groups > 1


def layer_forms(spec: PatchSpec) -> Iterator[LayerForm]:
    """The layers of the dense form, for one window.

    A 3-D convolution is in the files a 2-D one over slices: see `runtimes.scene_graph`.
    """
    side, bands = spec.window, spec.bands
    for volume in spec.volumes:
        bands = volume.out_bands(bands)
        yield LayerForm(
            batch=bands,
            c_in=volume.depth * volume.c_in,
            c_out=volume.c_out,
            side=side,
            kernel=volume.kernel,
        )
        side -= volume.kernel - 1
    for plane in spec.planes:
        for layer in plane.layers((side, side)):
            yield LayerForm(
                c_in=layer.c_in,
                c_out=layer.c_out,
                side=layer.in_size[0],
                kernel=layer.kernel,
                groups=layer.groups,
            )
        side = plane.out_size((side, side))[0]
    c_in = spec.head.c_in
    for width in (*spec.head.hidden, spec.num_classes):
        yield LayerForm(c_in=c_in, c_out=width, side=side, kernel=side)
        c_in, side = width, 1
