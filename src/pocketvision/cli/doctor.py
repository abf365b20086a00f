"""The verb `doctor`: what may be wrong with data, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pocketvision.cli import display, options
from pocketvision.errors import ConfigError

if TYPE_CHECKING:
    from pocketvision.data.doctor import PhotoFindings
    from pocketvision.data.index import Index
    from pocketvision.data.scene.doctor import SceneFindings
    from pocketvision.record.words import Finding

# Parameters that only one kind of data has.
OF_PHOTOS = ("fix", "only")
OF_SCENES = ("labels", "no_data", "window", "train_share", "seed")


def doctor(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of class folders, or of train/ val/ test/; or a scene: folder or cube."
        ),
    ],
    task: Annotated[
        options.PhotoTask,
        typer.Option(help="What the photos are for: their classes, masks or boxes."),
    ] = "classify",
    void: options.Void = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="Write a clean list for `fit --only`; images are never touched.", metavar="FILE"
        ),
    ] = None,
    only: options.Only = None,
    labels: options.Labels = None,
    no_data: options.NoData = None,
    window: Annotated[
        int,
        typer.Option(
            help="Side in pixels that leakage is told for.", rich_help_panel=options.SCENES
        ),
    ] = 25,
    train_share: options.TrainShare = 0.3,
    seed: Annotated[
        int,
        typer.Option(help="Of the splits that are looked at.", rich_help_panel=options.SCENES),
    ] = 0,
    json: options.Json = False,
) -> None:
    """Examine images or a scene before training; exit code 1 on findings."""
    from pocketvision.data.scene.kind import is_scene

    if is_scene(data):
        _refuse(context, OF_PHOTOS, "photos", f"{data} is a scene")
        exit_code = _examine_scene(
            data,
            labels=labels,
            no_data=no_data,
            window=window,
            train_share=train_share,
            seed=seed,
            json=json,
        )
    else:
        _refuse(context, OF_SCENES, "scenes", f"{data} holds no cube")
        exit_code = _examine_photos(data, task, tuple(void or ()), fix, only, json)
    if exit_code:
        raise typer.Exit(exit_code)


def _refuse(context: typer.Context, names: tuple[str, ...], others: str, why: str) -> None:
    """Raises: ConfigError: an option was given that has no meaning for the data."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is an option for {others}, and {why}; leave it away.")


def _examine_photos(
    data: Path,
    task: options.PhotoTask,
    void: tuple[int, ...],
    fix: Path | None,
    only: Path | None,
    json: bool,
) -> int:
    from pocketvision.data.clean import check_new, write_clean_list

    if fix is not None:
        check_new(fix)
    if void and task != "segment":
        raise ConfigError("--void is of masks; leave it away, or say --task segment.")
    index, found = _examined(data, task, void, only)
    if json:
        display.print_json(_as_json(index, found))
    else:
        print_photo_findings(found)
    if fix is not None:
        kept = write_clean_list(fix, index, found.left_out)
        _print_fix(fix, index, found, kept)
    return found.exit_code


def _examined(
    data: Path, task: options.PhotoTask, void: tuple[int, ...], only: Path | None
) -> tuple[Index, PhotoFindings]:
    """The images, read once, and what was found."""
    from pocketvision.data.annotated_doctor import AnnotatedSamples, examine_annotated
    from pocketvision.data.doctor import examine_index
    from pocketvision.data.index import read_index
    from pocketvision.data.masks.samples import scan_masks
    from pocketvision.data.objects.samples import scan_objects
    from pocketvision.progress import counted

    reporter = display.TerminalReporter()
    with reporter.progress("Reading images") as advance:
        read = counted(advance)
        samples: AnnotatedSamples | None = None
        match task:
            case "classify":
                index = read_index(data, only=only, progress=read)
            case "segment":
                samples = scan_masks(data, void=void, skip_bad=True, only=only, progress=read)
            case "detect":
                samples = scan_objects(data, skip_bad=True, only=only, progress=read)
    with reporter.progress("Comparing images") as advance:
        if samples is None:
            return index, examine_index(index, counted(advance))
        return samples.index, examine_annotated(samples, counted(advance))


def _as_json(index: Index, found: PhotoFindings) -> dict[str, object]:
    """Findings and what a clean list leaves out, with all their files."""
    from pocketvision.data.folders import printable

    return {
        "folder": found.folder,
        "images": found.images,
        "classes": found.classes,
        "counts": found.counts,
        "exit_code": found.exit_code,
        "findings": [{**asdict(one.finding), "files": one.files} for one in found.findings],
        "left_out": [
            {"why": rule.why, "files": [printable(index.paths[row]) for row in rule.rows.tolist()]}
            for rule in found.left_out
        ],
    }


def _print_fix(fix: Path, index: Index, found: PhotoFindings, kept: int) -> None:
    """What the clean list leaves out, rule by rule; on standard error, as --json has the other."""
    from pocketvision.data.folders import printable

    # An image whose boxes were mended is among the skipped, and readable all the same.
    unusable = len({entry.path for entry in index.skipped} - set(map(printable, index.paths)))
    lines = [f"  {unusable:,} that cannot be used"] if unusable else []
    lines += [f"  {len(rule.rows):,} {rule.why}" for rule in found.left_out]
    say = display.TerminalReporter().say
    say(f"Wrote {fix}: {kept:,} of {len(index) + unusable:,} files; left out are")
    for line in lines or ["  none"]:
        say(line)


def print_photo_findings(found: PhotoFindings) -> None:
    """Images by class and split, and the findings, the gravest first."""
    totals = ", ".join(f"{name} {total:,}" for name, total in found.totals.items())
    line = f"{found.folder}: {found.images:,} images, {len(found.classes):,} classes"
    display.tell(f"{line}; {totals}." if totals else f"{line}.")
    told = "" if found.counted == "images" else f", {found.counted}"
    grid = display.table("", "class", *(f">{name}{told}" for name in found.counts))
    for label, name in enumerate(found.classes):
        shown = name if name.isprintable() else ascii(name)
        grid.add_row(escape(shown), *(f"{row[label]:,}" for row in found.counts.values()))
    if found.images:
        display.show(grid)
    print_list(one.finding for one in found.findings)
    if not found.findings:
        display.tell("Nothing found.")


def print_list(findings: Iterable[Finding]) -> None:
    """One line a finding."""
    words = {"error": "[bold red]error[/]", "warning": "[yellow]warning[/]", "note": "note"}
    for finding in findings:
        display.out.print(f"{words[finding.severity]}: {escape(finding.sentence)}", highlight=False)


def _examine_scene(
    data: Path,
    *,
    labels: str | None,
    no_data: float | None,
    window: int,
    train_share: float,
    seed: int,
    json: bool,
) -> int:
    from pocketvision.data.scene.doctor import examine
    from pocketvision.data.scene.reading import open_scene

    with display.TerminalReporter().progress("Examining"):
        scene = open_scene(data, labels=labels, no_data=no_data)
        found = examine(scene, window=window, train_share=train_share, seed=seed)
    if json:
        display.print_json(asdict(found))
    else:
        print_findings(found)
    return found.exit_code


def print_findings(found: SceneFindings) -> None:
    """The facts, the classes, the leakage of every split, and the findings, the gravest first."""
    height, width, bands = found.shape
    values = "" if found.value_range is None else " of {:g} to {:g}".format(*found.value_range)
    display.tell(
        f"{found.name}: {height}x{width} pixels, {bands} bands, {found.dtype}{values}; "
        f"{found.missing:,} pixels without a measurement; {len(found.dead)} dead bands, "
        f"{len(found.noisy)} noisy ones."
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
    print_list(found.findings)
