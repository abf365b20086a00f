"""The verb `profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pocketvision.cli import display, options, scenes

if TYPE_CHECKING:
    from pocketvision.measure.table import DeviceTable, TableCheck
    from pocketvision.record.words import Precision, TaskName


def profile(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="File to write, such as my-device.json; must not exist.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Instead, a folder to write that is timed on another device."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="v3_large, v3_small, v2, or a TOML file of your own. Default: v3_large, and none "
            "beside --models."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or pattern of networks, for `fit --target` and `shrink --target`; beside "
            "--scene, hybridsn or mobile_patch. May be repeated."
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help="classify; or segment or detect, whose networks are timed whole: with --models, "
            "--resolution and --classes."
        ),
    ] = "classify",
    classes: Annotated[
        int | None,
        typer.Option(help="Of the images, for segment and detect; the background is not counted."),
    ] = None,
    head: options.Head = None,
    resolution: Annotated[
        list[int] | None,
        typer.Option(
            help="Input side in pixels; may be repeated. Default: the smallest of the space."
        ),
    ] = None,
    runtime: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="f32, bf16, int8 or w8.")] = "int8",
    threads: options.Threads = 1,
    seed: Annotated[int, typer.Option(help="Of the networks that check the table.")] = 0,
    scene: Annotated[
        Path | None,
        typer.Option(
            help="A hyperspectral scene, for `fit --task hyperspectral --target`: the networks "
            "for its bands and classes, timed whole.",
            rich_help_panel=options.SCENES,
        ),
    ] = None,
    labels: options.Labels = None,
    no_data: options.NoData = None,
    window: options.Window = None,
    bands: options.Bands = "pca",
    components: options.Components = None,
    attention: options.Attention = None,
) -> None:
    """Time every block of a search space, or of networks: the latency table of this machine, or of
    another.
    """
    from pocketvision.errors import ConfigError
    from pocketvision.fitting.device_profile import run_profile, write_bundle
    from pocketvision.fitting.profile_config import ProfileConfig

    if (out is None) == (bundle is None):
        raise ConfigError("give one of --out FILE, to time this machine, and --bundle FOLDER.")
    scenes.refuse_options_of_other_profile(context, scene is not None)
    if scene is not None and (place := out or bundle) is not None:
        scenes.profile(
            scene,
            place,
            bundle=bundle is not None,
            labels=labels,
            no_data=no_data,
            methods=tuple(models or ()),
            window=window,
            bands=bands,
            components=components,
            attention=attention,
            precision=precision,
            threads=threads,
        )
        return
    blocks_alone = task == "classify" and not models
    config = ProfileConfig(
        task=cast("TaskName", task),
        space=space or ("v3_large" if blocks_alone else None),
        models=tuple(models or ()),
        resolutions=tuple(resolution or ()),
        runtime=runtime,
        precision=cast("Precision", precision),
        threads=threads,
        classes=classes,
        head=head,
        seed=seed,
    )
    reporter = display.TerminalReporter()
    try:
        if bundle is not None:
            write_bundle(config, bundle, reporter)
        elif out is not None:
            print_check(*run_profile(config, out, reporter), out)
    except KeyboardInterrupt:
        display.tell(
            "Interrupted; what was timed is kept. Run the same command again to go on.", display.err
        )
        raise typer.Exit(130) from None


def print_check(table: DeviceTable, check: TableCheck | None, out: Path) -> None:
    """How good the sums are, and where the table is."""
    display.tell(check_sentence(table, check))
    display.tell(f"Wrote {out}")


def check_sentence(table: DeviceTable, check: TableCheck | None) -> str:
    """The errors of the sums and their order, as far as they are known."""
    if check is None:
        return (
            f"Too few whole networks to check the sums by, {len(table.dense or table.wholes)}: "
            "their error and "
            "their rank correlation are not known. A larger space, or networks beside it "
            "(--models), would tell."
        )
    rank = check.rank_correlation
    order = "not known: too many are equally fast" if rank is None else f"{rank:.3f}"
    return (
        f"Sums against {check.n} whole networks: median error {check.median_error:.1%}, worst "
        f"{check.worst_error:.1%}, rank correlation {order}."
    )
