"""The verbs. Each parses its words, makes one library call, and prints; libraries load on use."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from pocketvision.cli import display, tables
from pocketvision.errors import PocketvisionError

app = typer.Typer(
    name="pocketvision",
    help="Fits a vision network to a device: labelled images and a budget in, one folder out with "
    "a trained, quantized, exported, verified and measured network.",
    epilog="Exit codes: 0 done; 1 a gate failed; 2 bad input; 3 the budget cannot be met.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Accelerator = Literal["auto", "cpu", "cuda"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
BUDGET, CHOICE, TRAINING = "Budget", "What may be chosen", "Training"  # panels of the help

Threads = Annotated[int, typer.Option(help="CPU threads of the runtime.")]


def main() -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    # Threads of PyTorch that wait for each other give up their core sooner than by default: on a
    # busy machine they would otherwise keep the ones they wait for from running. It must be set
    # before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except PocketvisionError as error:
        display.err.print(f"Error: {error}", style="red", markup=False, highlight=False)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        reason = error.strerror or str(error)
        display.err.print(f"Error: {reason}{where}", style="red", markup=False, highlight=False)
        sys.exit(2)
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        display.err.print(
            "Error: the installed torchvision does not fit the installed torch, and keeps other "
            "packages from loading. pocketvision does not need it: pip uninstall torchvision",
            style="red",
            highlight=False,
        )
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from pocketvision import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or of train/ val/ test/.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    latency: Annotated[
        str | None, typer.Option(help="Budget per image, such as 5ms.", rich_help_panel=BUDGET)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Budget of the files to ship, such as 4MB.", rich_help_panel=BUDGET),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Budget of peak memory beyond an empty session, such as 20MB.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time for all of it, such as 30m.", rich_help_panel=BUDGET)
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Name or pattern to allow; may be repeated.", rich_help_panel=CHOICE),
    ] = None,
    width: Annotated[
        list[float] | None,
        typer.Option(help="Width multiplier to allow; may be repeated.", rich_help_panel=CHOICE),
    ] = None,
    resolution: Annotated[
        list[int] | None,
        typer.Option(
            help="Input side in pixels to allow; may be repeated.", rich_help_panel=CHOICE
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime or openvino; default: all installed.", rich_help_panel=CHOICE
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="f32, bf16 or int8; default: all the runtime has.", rich_help_panel=CHOICE
        ),
    ] = None,
    threads: Threads = 1,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Points of top-1 a file may lose against the float network.",
            rich_help_panel=CHOICE,
        ),
    ] = 1.0,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from a file (ours, torchvision's, timm's), a fitted folder, an address, or "
            "the published weights of `torchvision` or `timm`.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Default: what fits --time, else 40.", rich_help_panel=TRAINING),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Images per training step.", rich_help_panel=TRAINING)
    ] = 64,
    learning_rate: Annotated[
        float | None, typer.Option(help="Top of the schedule.", rich_help_panel=TRAINING)
    ] = None,
    flip: Annotated[
        bool,
        typer.Option(help="Mirror images in training; not for text.", rich_help_panel=TRAINING),
    ] = True,
    mixup: Annotated[
        float, typer.Option(help="MixUp alpha; 0: off.", rich_help_panel=TRAINING)
    ] = 0.0,
    cutmix: Annotated[
        float, typer.Option(help="CutMix alpha; 0: off.", rich_help_panel=TRAINING)
    ] = 0.0,
    min_scale: Annotated[
        float | None,
        typer.Option(
            help="Smallest random crop, as a share of the area.", rich_help_panel=TRAINING
        ),
    ] = None,
    class_weights: Annotated[
        bool,
        typer.Option("--class-weights", help="Weigh rare classes more.", rich_help_panel=TRAINING),
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Also log for TensorBoard (extra).", rich_help_panel=TRAINING
        ),
    ] = False,
    device: Annotated[
        Accelerator, typer.Option(help="Train on cpu, cuda or auto.", rich_help_panel=TRAINING)
    ] = "auto",
    devices: Annotated[int, typer.Option(help="How many of them.", rich_help_panel=TRAINING)] = 1,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable images out.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of split, order, augmentation, weights.")] = 0,
    json: Json = False,
) -> None:
    """Fit a network to labelled images and a budget."""
    from pocketvision.fitting.config import FitConfig, fit_augmentation
    from pocketvision.fitting.pipeline import parse_budget, run_fit

    config = FitConfig(
        data=str(data),
        budget=parse_budget(latency, size, time, memory),
        models=tuple(models or ()),
        widths=tuple(width or ()),
        resolutions=tuple(resolution or ()),
        runtimes=tuple(runtime or ()),
        precisions=tuple(precision or ()),
        threads=threads,
        max_drop_points=max_drop,
        weights=weights,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augmentation=fit_augmentation(flip=flip, mixup=mixup, cutmix=cutmix, min_scale=min_scale),
        class_weights=class_weights,
        tensorboard=tensorboard,
        accelerator=device,
        devices=devices,
        skip_bad=skip_bad,
        seed=seed,
    )
    try:
        artefact = run_fit(
            config,
            out,
            display.TerminalReporter(),
            command=shlex.join(["pocketvision", *sys.argv[1:]]),
        )
    except KeyboardInterrupt:
        display.err.print("Interrupted. Run the same command again to go on.", highlight=False)
        raise typer.Exit(130) from None
    if json:
        print((artefact.folder / "record.json").read_text())
    else:
        display.print_summary(artefact)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="What `fit` wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show per image.")] = 3,
    json: Json = False,
) -> None:
    """Classify image files with a fitted network."""
    from pocketvision.fitting.artefact import load

    artefact = load(folder)
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


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="What `fit` wrote.")],
    data: Annotated[Path, typer.Argument(help="The images it was fitted to.")],
    latency: Annotated[str | None, typer.Option(help="Limit on this machine, such as 5ms.")] = None,
    json: Json = False,
) -> None:
    """Check a fitted network on this machine against its record; exit code 1 if it fails."""
    from pocketvision.fitting.verify import verify as run_verify

    found = run_verify(folder, data, latency=latency, reporter=display.TerminalReporter())
    if json:
        display.print_json({**asdict(found), "passed": found.passed})
    else:
        display.print_verification(found)
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Such as 'mobilenet_v3*'.")] = "*",
    json: Json = False,
) -> None:
    """List the networks, with the papers' accuracy on ImageNet."""
    from pocketvision.models.registry import find_models

    names = find_models(pattern)
    if json:
        display.print_json(names)
    else:
        tables.print_models(names)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A network; see `models`.")],
    width: Annotated[
        float | None, typer.Option(help="Width multiplier; default: the name's, mostly 1.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 1000,
    attention: Annotated[
        str | None, typer.Option(help="se, cbam or none in place of the network's own.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also every convolution and linear layer.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also the activation memory of every block.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a network's table: blocks, multiply-accumulates, parameters, shares and totals."""
    from pocketvision.measure.activations import activation_memory
    from pocketvision.measure.rows import layer_rows
    from pocketvision.measure.summary import describe as describe_spec
    from pocketvision.models.registry import spec

    network = spec(
        name, width=width, resolution=resolution, num_classes=classes, attention=attention
    )
    found = describe_spec(network)
    rows = layer_rows(network) if layers else ()
    activations = activation_memory(network) if memory else None
    if json:
        extra = {"layers": [asdict(row) for row in rows]} if layers else {}
        kept = {"memory": asdict(activations)} if activations else {}
        display.print_json({**asdict(found), **extra, **kept, "spec": asdict(network)})
        return
    tables.print_description(found)
    if layers:
        tables.print_layers(rows)
    if activations:
        tables.print_memory(activations)


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Networks; see `models`.")],
    width: Annotated[
        list[float] | None, typer.Option(help="Width multiplier; may be repeated.")
    ] = None,
    resolution: Annotated[
        list[int] | None,
        typer.Option(help="Input side in pixels; may be repeated.", show_default="224"),
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also time them on this machine.")
    ] = False,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="onnxruntime or openvino; may be repeated.", show_default="onnxruntime"),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="f32, bf16 or int8; default: all the runtime has."),
    ] = None,
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Images at a time for the throughput.")] = 8,
    out: Annotated[
        Path | None, typer.Option(help="Page to write, such as comparison.html; must not exist.")
    ] = None,
    json: Json = False,
) -> None:
    """Show networks side by side: published accuracy, costs and, with --latency, speed."""
    from pocketvision.fitting.compare import check_page, write_page
    from pocketvision.fitting.compare import compare as compare_networks
    from pocketvision.storage import to_json

    if out is not None:
        check_page(out)
    found = compare_networks(
        names,
        widths=width or (),
        resolutions=resolution or (224,),
        latency=latency,
        runtimes=runtime or (),
        precisions=precision or (),
        threads=threads,
        batch=batch,
        reporter=display.TerminalReporter(),
    )
    if json:
        print(to_json(found), end="")
    else:
        tables.print_side_by_side(found)
    if out is not None:
        write_page(found, out)
        display.err.print(f"Wrote {out}", highlight=False, markup=False)


@app.command()
def measure(
    file: Annotated[Path, typer.Argument(help="Any ONNX file.")],
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Of an input with open axes: x=1,3,224,224; may be repeated."),
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Time an ONNX file on this machine: median, p95 and the 95 % interval of the median."""
    from pocketvision.measure.onnxfile import measure_file, parse_shapes

    shapes = parse_shapes(shape or [])
    with display.TerminalReporter().progress("Measuring") as advance:
        latency = measure_file(
            file, threads, shapes=shapes, progress=lambda done, total: advance(done, total, "")
        )
    if json:
        display.print_json(asdict(latency))
    else:
        display.out.print(display.latency_text(latency), highlight=False)


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="digits: 1,797 handwritten digits, 8x8.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
) -> None:
    """Write a small real data set that ships inside a dependency: train/ val/ test/."""
    from pocketvision.data.samples import write_sample

    display.out.print(f"Wrote {write_sample(name, folder)}", highlight=False)
