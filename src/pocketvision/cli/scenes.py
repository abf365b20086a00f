"""The verbs on hyperspectral scenes: what `fit` does with one, `doctor` and `map`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pocketvision.budget import count_of, format_time
from pocketvision.cli import display, options
from pocketvision.errors import ConfigError

if TYPE_CHECKING:
    from pocketvision.mapping.artefact import SceneArtefact

# Parameters of `fit` that only one task has.
OF_PHOTOS = (
    *("memory", "width", "resolution", "runtime", "epochs", "batch_size", "flip", "mixup"),
    *("cutmix", "min_scale", "class_weights", "tensorboard", "devices", "skip_bad", "only"),
    *("nodes", "search", "head", "void", "nms"),
)
OF_SCENES = (
    *("labels", "no_data", "split", "guard", "train_share", "train_per_class", "mask", "repeats"),
    *("window", "bands", "whiten", "components", "attention", "training", "steps"),
)


OF_PHOTOS_SHRUNK = (  # of `shrink`; its seed is that of the run on the scene
    *("memory", "runtime", "precision", "threads", "epochs", "flip"),
    *("device", "devices", "nodes", "skip_bad", "void", "seed"),
)
OF_SCENES_SHRUNK = ("labels", "steps")
OF_PHOTOS_PROFILED = ("space", "task", "classes", "head", "resolution", "runtime", "seed")
OF_SCENES_PROFILED = ("labels", "no_data", "window", "bands", "components", "attention")


def refuse_options_of_other_task(context: typer.Context, task: options.Task) -> None:
    """Raises: ConfigError: an option was given that has no meaning for the task."""
    is_scene = task == "hyperspectral"
    other = "photos" if is_scene else "scenes (--task hyperspectral)"
    _refuse(context, OF_PHOTOS if is_scene else OF_SCENES, other, f"with --task {task}")


def refuse_options_of_other_network(context: typer.Context, is_scene: bool) -> None:
    """As `refuse_options_of_other_task`, for `shrink`, whose network says what it is for."""
    names = OF_PHOTOS_SHRUNK if is_scene else OF_SCENES_SHRUNK
    other, this = ("photos", "a scene") if is_scene else ("scenes", "photos")
    _refuse(context, names, f"networks for {other}", f"for one that was fitted to {this}")


def refuse_options_of_other_profile(context: typer.Context, is_scene: bool) -> None:
    """As `refuse_options_of_other_task`, for `profile`, where --scene says what it is of."""
    names = OF_PHOTOS_PROFILED if is_scene else OF_SCENES_PROFILED
    other, this = ("photos", "beside --scene") if is_scene else ("scenes", "without --scene")
    _refuse(context, names, other, this)


def profile(
    data: Path,
    out: Path,
    *,
    bundle: bool,
    labels: str | None,
    no_data: float | None,
    methods: tuple[str, ...],
    window: int | None,
    bands: options.BandsName,
    components: int | None,
    attention: options.AttentionName | None,
    precision: str,
    threads: int,
) -> None:
    """The latency table of the networks for a scene. bundle: as files for another device."""
    from pocketvision.mapping.config import SceneConfig
    from pocketvision.mapping.scene_profile import run_scene_profile, write_scene_bundle

    config = SceneConfig(
        data=str(data),
        labels=labels,
        no_data=no_data,
        methods=methods,
        window=window,
        bands=bands,
        components=components,
        attention=attention,
        precisions=(precision,),
        threads=threads,
    )
    reporter = display.TerminalReporter()
    if bundle:
        write_scene_bundle(config, out, reporter)
        return
    table = run_scene_profile(config, out, reporter)
    count = count_of(len(table.scenes), "network")
    display.tell(f"Timed {count} whole, and {len(table.layers)} layers for narrower forms.")
    display.tell(f"Wrote {out}")


def _refuse(context: typer.Context, names: tuple[str, ...], other: str, here: str) -> None:
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"--{name.replace('_', '-')} is an option for {other}; leave it away {here}."
            )


def fit(
    data: Path,
    out: Path,
    *,
    labels: str | None,
    no_data: float | None,
    budget: tuple[str | None, str | None, str | None, str | None],
    methods: tuple[str, ...],
    attention: options.AttentionName | None,
    window: int | None,
    bands: options.BandsName,
    whiten: bool,
    components: int | None,
    split: options.SplitKind,
    guard: options.GuardName,
    train_share: float,
    train_per_class: int | None,
    mask: str | None,
    repeats: int,
    training: options.TrainingName,
    steps: int | None,
    learning_rate: float | None,
    weights: str | None,
    precisions: tuple[str, ...],
    threads: int | None,
    target: str | None,
    max_drop: float,
    device: options.Device,
    seed: int,
    json: bool,
) -> None:
    """Fit a network to a scene and a budget, and print what came out."""
    from pocketvision.fitting.pipeline import parse_budget
    from pocketvision.fitting.target_table import threads_asked
    from pocketvision.mapping.config import PRECISIONS, SceneConfig
    from pocketvision.mapping.pipeline import run_scene_fit

    config = SceneConfig(
        data=str(data),
        labels=labels,
        no_data=no_data,
        budget=parse_budget(*budget),
        methods=methods,
        attention=attention,
        window=window,
        bands=bands,
        whiten=whiten,
        components=components,
        split=split,
        guard=guard,
        train_share=train_share,
        train_per_class=train_per_class,
        mask=mask,
        repeats=repeats,
        training=training,
        steps=steps,
        learning_rate=learning_rate,
        weights=weights,
        precisions=precisions or PRECISIONS,
        threads=threads_asked(threads, target),
        target=target,
        max_drop_points=max_drop,
        accelerator=device,
        seed=seed,
    )
    artefact = display.carried_out(
        lambda reporter, command: run_scene_fit(config, out, reporter, command=command)
    )
    _show(artefact, json)


def shrink(
    source: Path,
    data: Path,
    out: Path,
    *,
    budget: tuple[str, str | None, str | None],
    labels: str | None,
    step: float,
    multiple: int,
    brief_steps: int,
    steps: int | None,
    max_drop: float,
    target: str | None,
    workers: str | None,
    json: bool,
) -> None:
    """Narrow a network for a scene, and print what came out."""
    from pocketvision.fitting.pipeline import parse_budget
    from pocketvision.mapping.shrink import run_scene_shrink
    from pocketvision.mapping.shrink_config import SceneShrinkConfig

    config = SceneShrinkConfig(
        source=str(source),
        data=str(data),
        labels=labels,
        budget=parse_budget(*budget),
        step=step,
        multiple=multiple,
        brief_steps=brief_steps,
        steps=steps,
        max_drop_points=max_drop,
        target=target,
        workers=options.parse_workers(workers),
    )
    artefact = display.carried_out(
        lambda reporter, command: run_scene_shrink(config, out, reporter, command=command)
    )
    _show(artefact, json)


def _show(artefact: SceneArtefact, as_json: bool) -> None:
    if as_json:
        display.print_record(artefact.folder)
    else:
        print_summary(artefact)


def map_scene(
    folder: Annotated[Path, typer.Argument(help="What `fit --task hyperspectral` wrote.")],
    cube: Annotated[Path, typer.Argument(help="A scene, or its cube alone.")],
    out: Annotated[
        Path,
        typer.Option(help="Map to write: .png with a legend, .tif, or .npy; must not exist."),
    ],
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="Also this map, 0 sure to 1 unsure: .png, .tif or .npy."),
    ] = None,
    no_data: options.NoData = None,
    json: options.Json = False,
) -> None:
    """Name every pixel of a scene with a fitted network."""
    from pocketvision.mapping.maps import map_scene as make_map

    found = make_map(
        folder,
        cube,
        out,
        uncertainty=uncertainty,
        no_data=no_data,
        reporter=display.TerminalReporter(),
    )
    if json:
        display.print_json(asdict(found))
        return
    grid = display.table("", "class", ">pixels", ">share")
    for name, pixels in sorted(found.pixels.items(), key=lambda pair: -pair[1]):
        grid.add_row(escape(name), f"{pixels:,}", f"{pixels / max(1, found.classified):.1%}")
    display.show(grid)
    for path in found.files:
        display.tell(f"Wrote {path}")
    display.tell(f"{found.classified:,} pixels in {found.seconds:.2f} s")


def print_summary(artefact: SceneArtefact) -> None:
    """The verdict, every method with its leakage, and where things are."""
    from pocketvision.report.scene_rows import method_rows, spread_number, spread_percent

    record, folder = artefact.record, artefact.folder
    display.tell(record.verdict.sentence, style="bold")
    columns = (
        ">OA",
        ">AA",
        ">kappa",
        ">hold a training centre",
        ">share pixels",
        ">runs",
        ">training",
    )
    grid = display.table("", "method", *columns)
    for row in method_rows(record):
        scores = (
            spread_percent(row.overall),
            spread_percent(row.average),
            spread_number(row.kappa),
        )
        leaks = (row.centre_leak, row.window_leak)
        seconds = format_time(row.train_seconds.mean)
        grid.add_row(row.label, *scores, *leaks, str(len(row.runs)), seconds)
    display.show(grid)
    for line in (
        "Leakage    shares of test windows that hold a training centre, and that share pixels with "
        "a training window",
        f"Shipped    {record.shipped.precision}, {record.shipped.size_bytes:,} bytes",
        f"Map        {folder / 'map.png'} in {record.map_seconds:.2f} s",
        f"Report     {folder / 'report.html'}",
        f"Try        python {folder / 'model' / 'run.py'} cube.npy classes.npy",
    ):
        display.tell(line)
