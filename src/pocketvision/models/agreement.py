"""Whether saved weights whose shapes fit are of this very network: shapes do not show all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from pocketvision.errors import ArtefactError
from pocketvision.models.arch import ArchSpec
from pocketvision.models.identify import with_channels


def as_saved(asked: ArchSpec, saved: ArchSpec, path: Path) -> ArchSpec:
    """`asked` with the norms of the network whose weights `path` holds.

    saved: as network.json beside `path` has it. Input channels and the head's size may differ.

    Raises: ArtefactError: both differ in what is computed, such as an activation; with the field.
    """
    theirs, ours = dict(_fields("blocks", saved.blocks)), dict(_fields("blocks", asked.blocks))
    if asked.head.hidden and asked.head.hidden == saved.head.hidden:  # else its head is new
        theirs["head.act"], ours["head.act"] = saved.head.act, asked.head.act
    for place in {**theirs, **ours}:
        if theirs.get(place) != ours.get(place):
            raise ArtefactError(
                f"{path} fits {asked.label} by its shapes, but is of another network, "
                f"{saved.label}: {place} is {theirs.get(place)!r} there, {ours.get(place)!r} in "
                "the one asked for. For the network that was saved take "
                f"weights.load(Path({str(path.parent)!r})), create_model(weights.spec_of(path), "
                f"weights=path), or `fit --weights {path.parent}` without --models."
            )
    if saved.in_chans != asked.in_chans:
        saved = with_channels(saved, asked.in_chans)
    return replace(asked, blocks=saved.blocks)


def _fields(place: str, value: object) -> Iterator[tuple[str, object]]:
    """What decides about the computation, as "blocks.3.act"; no norms, no input channels."""
    if isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from _fields(f"{place}.{index}", each)
    elif is_dataclass(value):
        for field in fields(value):
            name = f"{place}.{field.name}"
            if field.name != "norm" and name != "blocks.0.c_in":
                yield from _fields(name, getattr(value, field.name))
    else:
        yield place, value
