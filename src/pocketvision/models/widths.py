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
from pocketvision.models.patch_widths import (
    check_patch_member,
    keeps_layers,
    narrower_patch,
    patch_groups,
)
from pocketvision.models.taps import last_block
from pocketvision.models.width_groups import (
    WidthGroup,
    check_member,
    is_allowed,
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
    """The widths below the present one that `narrower` takes, descending.

    multiple: they are multiples of it; the present one need not be.

    Raises: ConfigError: a group that is not of `spec`, a multiple below 1.
    """
    widths = _multiples_below(spec, group, multiple)
    return tuple(width for width in widths if _is_taken(spec, group, width))


def least_width(
    spec: AnySpec | PatchSpec, group: WidthGroup, multiple: int = 1, least: float = 1
) -> int | None:
    """The last of `widths_of` that is `least` or more, without trying all; None: there is none.

    Raises: ConfigError: as `widths_of`.
    """
    widths = reversed(_multiples_below(spec, group, multiple))
    wide = (width for width in widths if width >= least and _is_taken(spec, group, width))
    return next(wide, None)


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


def _multiples_below(spec: AnySpec | PatchSpec, group: WidthGroup, multiple: int) -> range:
    """Descending, of a width of `spec`. Raises: ConfigError: as `widths_of`."""
    if isinstance(spec, PatchSpec):
        check_patch_member(spec, group)
    elif isinstance(spec, ArchSpec):
        check_member(spec, group)
    elif group not in _head_groups(spec):
        check_member(spec.backbone, group)
    at_least("multiple", multiple, 1)
    return range((group.width - 1) // multiple * multiple, 0, -multiple)


def _is_taken(spec: AnySpec | PatchSpec, group: WidthGroup, width: int) -> bool:
    """Whether `narrower` takes a width below the present one."""
    if isinstance(spec, PatchSpec):
        return keeps_layers(spec, group, width)
    if isinstance(spec, ArchSpec):
        return is_allowed(spec, group, width)
    if group in _head_groups(spec):
        return True
    if not is_allowed(spec.backbone, group, width):
        return False
    return group.kind not in DEALT or _finds_channels(spec, group, width)


def _finds_channels(spec: DenseSpec, group: WidthGroup, width: int) -> bool:
    """Whether the head, too, finds one for each of the narrower maps."""
    try:
        check_narrows(spec, narrower(spec, group, width))
    except ConfigError:
        return False
    return True
