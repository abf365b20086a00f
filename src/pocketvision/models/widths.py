"""The widths of any network that can be changed: those of a classifier, or of a body and its head.

A segmenter or detector has the groups of its backbone that reach a map of the head, and what is
inside the head; channels of the maps follow. Those of patch classifiers are in `patch_widths`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from pocketvision.errors import ConfigError, at_least
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import DetectorSpec
from pocketvision.models.narrow import check_narrows
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_widths import narrower_patch, patch_groups, patch_widths
from pocketvision.models.taps import last_block
from pocketvision.models.width_groups import (
    WidthGroup,
    allowed,
    marked_narrowed,
    resized,
    width_groups,
)

DEALT = ("stage", "stages")  # kinds of groups whose channels do not all meet the same layers
FILTERS, EXTRA = "head.filters", "head.extras."

Spec = TypeVar("Spec", AnySpec, PatchSpec)


def groups_of(spec: AnySpec | PatchSpec) -> tuple[WidthGroup, ...]:
    """All widths of `spec` that can be changed, from input to output; see `width_groups`."""
    if isinstance(spec, PatchSpec):
        return patch_groups(spec)
    if isinstance(spec, ArchSpec):
        return width_groups(spec)
    last = last_block(spec.taps)
    body = [
        group for group in width_groups(spec.backbone) if group.blocks and group.blocks[0] <= last
    ]
    return (*body, *_head_groups(spec))


def widths_of(spec: AnySpec | PatchSpec, group: WidthGroup, multiple: int = 1) -> tuple[int, ...]:
    """The widths below the present one that `narrower` takes, descending; see `allowed`.

    Raises: ConfigError: as `allowed`.
    """
    if isinstance(spec, PatchSpec):
        return patch_widths(spec, group, multiple)
    if isinstance(spec, ArchSpec):
        return allowed(spec, group, multiple)
    if group not in _head_groups(spec):
        widths = allowed(spec.backbone, group, multiple)
        if group.kind not in DEALT:
            return widths
        return tuple(width for width in widths if _finds_channels(spec, group, width))
    at_least("multiple", multiple, 1)
    largest = (group.width - 1) // multiple * multiple
    return tuple(range(largest, 0, -multiple))


def narrower(spec: Spec, group: WidthGroup, width: int) -> Spec:
    """`spec` with a smaller width for `group`, and for all that follows it; see `resized`.

    Raises: ConfigError: as `resized`.
    """
    if isinstance(spec, PatchSpec):
        return narrower_patch(spec, group, width)
    if isinstance(spec, ArchSpec):
        return resized(spec, group, width)
    if group not in _head_groups(spec):
        return spec.on(resized(spec.backbone, group, width))
    if not 1 <= width <= group.width:
        raise ConfigError(
            f"width={width} is out of range for {group.name} of {spec.label}; expected 1 to "
            f"{group.width}."
        )
    body = marked_narrowed(spec.backbone)
    if not isinstance(spec, DetectorSpec):
        return replace(spec, backbone=body, head=replace(spec.head, filters=width))
    extras, place = list(spec.head.extras), int(group.name.removeprefix(EXTRA))
    extras[place] = width
    return replace(spec, backbone=body, head=replace(spec.head, extras=tuple(extras)))


def _head_groups(spec: DenseSpec) -> tuple[WidthGroup, ...]:
    if not isinstance(spec, DetectorSpec):
        return (WidthGroup(name=FILTERS, kind="hidden", width=spec.head.filters),)
    return tuple(
        WidthGroup(name=f"{EXTRA}{place}", kind="hidden", width=width)
        for place, width in enumerate(spec.head.extras)
    )


def _finds_channels(spec: DenseSpec, group: WidthGroup, width: int) -> bool:
    """Whether the head, too, finds one for each of the narrower maps."""
    try:
        check_narrows(spec, narrower(spec, group, width))
    except ConfigError:
        return False
    return True
