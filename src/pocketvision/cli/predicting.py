"""The verb `predict`: what a fitted network says of image files, whatever its task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pocketvision.cli import display, options
from pocketvision.errors import ConfigError

if TYPE_CHECKING:
    from pocketvision.fitting.artefact import Artefact


def predict(
    folder: Annotated[Path, typer.Argument(help="What `fit` wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show per image.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG to write: the one image with what was seen in it."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what a fitted network sees in image files."""
    from pocketvision.fitting.artefact import load

    artefact = load(folder)
    if out is not None:
        _refuse_picture(artefact, images, out)
    match artefact.record.task:
        case "segment":
            _segment(artefact, images, top, out, json)
        case "detect":
            _detect(artefact, images, out, json)
        case _:
            _classify(artefact, images, top, json)


def _refuse_picture(artefact: Artefact, images: list[Path], out: Path) -> None:
    """Raises: ConfigError: there is nothing to draw, or nowhere to."""
    if artefact.record.task == "classify":
        raise ConfigError(
            f"--out draws places, and {artefact.folder} holds a network that names whole images; "
            "leave it away."
        )
    if len(images) != 1:
        raise ConfigError(f"--out takes one image, {len(images)} were given; draw them in turn.")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out writes a PNG, and {out} is named otherwise; end it in .png.")
    if out.exists():
        raise ConfigError(f"{out} exists; give another name, or remove it.")


def _classify(artefact: Artefact, images: list[Path], top: int, json: bool) -> None:
    predictions = {str(image): artefact.predict(image) for image in images}
    if json:
        display.print_json(
            {
                image: dict(zip(p.classes, p.probabilities, strict=True))
                for image, p in predictions.items()
            }
        )
    else:
        display.print_predictions(predictions, top)


def _segment(
    artefact: Artefact, images: list[Path], top: int, out: Path | None, json: bool
) -> None:
    from pocketvision.fitting.segmented import class_shares, picture_of

    shares: dict[str, dict[str, float]] = {}
    for image in images:
        classes = artefact.segment(image)
        shares[str(image)] = class_shares(classes, artefact.classes)
        if out is not None:
            picture_of(image, classes, out)
    if json:
        display.print_json(shares)
        return
    grid = display.table("", "image", "class", ">share of pixels")
    for path, found in shares.items():
        for number, (name, share) in enumerate(list(found.items())[:top]):
            shown = escape(display.printable(path)) if number == 0 else ""
            grid.add_row(shown, escape(name), f"{share:.1%}")
    display.show(grid)
    if out is not None:
        display.tell(f"Wrote {out}")


def _detect(artefact: Artefact, images: list[Path], out: Path | None, json: bool) -> None:
    from pocketvision.boxes import TOLD
    from pocketvision.fitting.artefact import upright
    from pocketvision.fitting.detected import picture_of

    told: dict[str, list[tuple[str, float, list[float]]]] = {}  # class, score, box in pixels
    for image in images:
        found = artefact.detect(image, TOLD)
        height, width, _ = upright(image).shape
        corners = (found.boxes * [width, height, width, height]).round(1).tolist()
        rows = zip(found.classes.tolist(), found.scores.tolist(), corners, strict=True)
        told[str(image)] = [
            (artefact.classes[number - 1], round(score, 4), box) for number, score, box in rows
        ]
        if out is not None:
            picture_of(image, found, artefact.classes, out)
    if json:
        names = ("class", "score", "box")
        display.print_json(
            {path: [dict(zip(names, line, strict=True)) for line in told[path]] for path in told}
        )
        return
    grid = display.table("", "image", "class", ">score", ">left, top, right, bottom, px")
    for path, lines in told.items():
        for number, (name, score, box) in enumerate(lines):
            shown = escape(display.printable(path)) if number == 0 else ""
            corners_px = ", ".join(f"{side:.0f}" for side in box)
            grid.add_row(shown, escape(name), f"{score:.2f}", corners_px)
        if not lines:
            grid.add_row(escape(display.printable(path)), "nothing", "", "")
    display.show(grid)
    if out is not None:
        display.tell(f"Wrote {out}")
