"""The verbs `verify` and `reproduce`: what was recorded against what is found here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketvision.cli import display, options
from pocketvision.errors import ConfigError

if TYPE_CHECKING:
    from pocketvision.fitting.checks import Verification


ListNow = Annotated[
    Path | None,
    typer.Option(help="The clean list, if the fit had one; left out: where it lay for the fit."),
]


def verify(
    folder: Annotated[Path, typer.Argument(help="What `fit` wrote.")],
    data: Annotated[
        Path | None,
        typer.Argument(help="The images or the scene it was fitted to; left out: no accuracy."),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(help="Limit on this machine, of an image or a pixel, such as 5ms."),
    ] = None,
    only: ListNow = None,
    labels: options.Labels = None,
    mask: options.Mask = None,
    json: options.Json = False,
) -> None:
    """Check a fitted network on this machine against its record; exit code 1 if it fails."""
    from pocketvision.fitting.verify import verify as verify_photos
    from pocketvision.mapping.artefact import is_scene_folder
    from pocketvision.mapping.verify import verify_scene

    reporter = display.TerminalReporter()
    if is_scene_folder(folder):
        if only is not None:
            raise ConfigError(f"{folder} holds a network for a scene; --only is for photos.")
        found = verify_scene(
            folder, data, latency=latency, labels=labels, mask=mask, reporter=reporter
        )
    else:
        if labels is not None or mask is not None:
            raise ConfigError(
                f"{folder} holds a network for photos; --labels and --mask are for scenes."
            )
        found = verify_photos(folder, data, latency=latency, only=only, reporter=reporter)
    _answer(found, json)


def reproduce(
    folder: Annotated[Path, typer.Argument(help="What `fit` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    data: Annotated[
        Path | None, typer.Option(help="The images; left out: where they lay for the fit.")
    ] = None,
    only: ListNow = None,
    weights: Annotated[
        str | None, typer.Option(help="The weights it began with; left out: where they lay.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Replay a fitted network's recipe and compare; exit code 1 where it differs beyond noise."""
    from pocketvision.fitting.reproduce import reproduce as reproduce_photos
    from pocketvision.mapping.artefact import is_scene_folder

    if is_scene_folder(folder):
        raise ConfigError(
            f"{folder} holds a network for a scene, and only photos are replayed; run the command "
            "in its record.json again with another --out, and compare the two reports."
        )
    found = display.carried_out(
        lambda reporter, command: reproduce_photos(
            folder,
            out,
            data=data,
            only=only,
            weights=weights,
            command=command,
            reporter=reporter,
        )
    )
    _answer(found, json)


def _answer(found: Verification, json: bool) -> None:
    if json:
        facts = {"passed": found.passed, "not_checked": found.not_checked}
        display.print_json({**asdict(found), **facts})
    else:
        display.print_verification(found)
    if not found.passed:
        raise typer.Exit(1)
