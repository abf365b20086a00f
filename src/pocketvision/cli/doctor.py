"""The verb `doctor`: what may be wrong with data, before anything is trained on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pocketvision.cli import display, options

if TYPE_CHECKING:
    from pocketvision.data.scene.doctor import SceneFindings


def doctor(
    data: Annotated[Path, typer.Argument(help="A scene: folder or cube file.")],
    labels: options.Labels = None,
    no_data: options.NoData = None,
    window: Annotated[int, typer.Option(help="Side in pixels that leakage is told for.")] = 25,
    train_share: Annotated[float, typer.Option(help="Of the labelled pixels.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of the splits that are looked at.")] = 0,
    json: options.Json = False,
) -> None:
    """Examine a hyperspectral scene: bands, labels, leakage of a split; exit code 1 on findings."""
    from pocketvision.data.scene.doctor import examine
    from pocketvision.data.scene.reading import open_scene

    with display.TerminalReporter().progress("Examining"):
        scene = open_scene(data, labels=labels, no_data=no_data)
        found = examine(scene, window=window, train_share=train_share, seed=seed)
    if json:
        display.print_json(asdict(found))
    else:
        print_findings(found)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def print_findings(found: SceneFindings) -> None:
    """The facts, the classes, the leakage of every split, and the findings, the gravest first."""
    height, width, bands = found.shape
    values = "" if found.value_range is None else " of {:g} to {:g}".format(*found.value_range)
    display.out.print(
        escape(
            f"{found.name}: {height}x{width} pixels, {bands} bands, {found.dtype}{values}; "
            f"{found.missing:,} pixels without a measurement; {len(found.dead)} dead bands, "
            f"{len(found.noisy)} noisy ones."
        ),
        highlight=False,
    )
    total = max(1, sum(found.counts))
    grid = display.table("", "class", ">labelled", ">share", ">regions")
    for name, pixels, regions in zip(found.classes, found.counts, found.regions, strict=False):
        grid.add_row(escape(name), f"{pixels:,}", f"{pixels / total:.1%}", str(regions))
    display.show(grid)
    grid = display.table(
        "", "split", "guard", ">train", ">test", ">hold a training centre", ">share pixels"
    )
    for split in found.splits:
        leak = split.leakage
        counts = (f"{sum(split.train):,}", f"{sum(split.test):,}")
        grid.add_row(split.kind, split.guard, *counts, f"{leak.centre:.1%}", f"{leak.window:.1%}")
    display.show(grid)
    words = {"error": "[bold red]error[/]", "warning": "[yellow]warning[/]", "note": "note"}
    for finding in found.findings:
        display.out.print(f"{words[finding.severity]}: {escape(finding.sentence)}", highlight=False)
