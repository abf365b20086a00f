"""The verbs. Each parses its words, makes one library call, and prints; libraries load on use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pocketvision.cli import (
    devices,
    display,
    doctor,
    gates,
    integers,
    networks,
    options,
    predicting,
    scenes,
    searching,
    shrinking,
)
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


def main() -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    # Threads of PyTorch that wait for each other give up their core sooner than by default: on a
    # busy machine they would otherwise keep the ones they wait for from running. It must be set
    # before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except PocketvisionError as error:
        display.tell(f"Error: {error}", display.err, style="red")
        sys.exit(error.exit_code)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        reason = error.strerror or str(error)
        display.tell(f"Error: {reason}{where}", display.err, style="red")
        sys.exit(2)
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        display.tell(
            "Error: the installed torchvision does not fit the installed torch, and keeps other "
            "packages from loading. pocketvision does not need it: pip uninstall torchvision",
            display.err,
            style="red",
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
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(help="Folder of class folders, or of train/ val/ test/; or a scene."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    task: options.TaskOption = "classify",
    latency: options.Latency = None,
    target: options.Target = None,
    size: options.Size = None,
    memory: options.Memory = None,
    time: options.Time = None,
    models: options.Models = None,
    width: options.Width = None,
    resolution: options.Resolution = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    threads: options.TargetThreads = None,
    max_drop: options.MaxDrop = 1.0,
    weights: options.Weights = None,
    search: options.Search = "off",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    flip: options.Flip = True,
    mixup: options.Mixup = 0.0,
    cutmix: options.Cutmix = 0.0,
    min_scale: options.MinScale = None,
    class_weights: options.ClassWeights = False,
    tensorboard: options.Tensorboard = False,
    device: options.DeviceOption = "auto",
    devices: options.Devices = 1,
    nodes: options.Nodes = 1,
    skip_bad: options.SkipBad = False,
    only: options.Only = None,
    head: options.Head = None,
    void: options.Void = None,
    nms: options.Nms = "outside",
    labels: options.Labels = None,
    no_data: options.NoData = None,
    split: options.Split = "blocks",
    guard: options.Guard = "centre",
    train_share: options.TrainShare = 0.3,
    train_per_class: options.TrainPerClass = None,
    mask: options.Mask = None,
    repeats: options.Repeats = 1,
    window: options.Window = None,
    bands: options.Bands = "pca",
    whiten: options.Whiten = True,
    components: options.Components = None,
    attention: options.Attention = None,
    training: options.Training = "dense",
    steps: options.Steps = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Fit a network to labelled images, or to a hyperspectral scene, and a budget."""
    scenes.refuse_options_of_other_task(context, task)
    if task == "hyperspectral":
        scenes.fit(
            data,
            out,
            labels=labels,
            no_data=no_data,
            budget=(latency, size, time, memory),
            methods=tuple(models or ()),
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
            precisions=tuple(precision or ()),
            threads=threads,
            target=target,
            max_drop=max_drop,
            device=device,
            seed=seed,
            json=json,
        )
        return
    from pocketvision.fitting.config import FitConfig, fit_augmentation
    from pocketvision.fitting.pipeline import parse_budget
    from pocketvision.fitting.target_table import threads_asked
    from pocketvision.searching.searched_fit import run_searched_fit

    config = FitConfig(
        data=str(data),
        task=task,
        head=head,
        void=tuple(void or ()),
        nms=nms,
        budget=parse_budget(latency, size, time, memory),
        models=tuple(models or ()),
        widths=tuple(width or ()),
        resolutions=tuple(resolution or ()),
        runtimes=tuple(runtime or ()),
        precisions=tuple(precision or ()),
        threads=threads_asked(threads, target),
        target=target,
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
        nodes=nodes,
        skip_bad=skip_bad,
        only=None if only is None else str(only),
        seed=seed,
    )
    artefact = display.carried_out(
        lambda reporter, command: run_searched_fit(config, search, out, reporter, command=command)
    )
    display.print_artefact(artefact, as_json=json)


@app.command()
def sample(
    name: Annotated[
        str,
        typer.Argument(
            help="digits: 1,797 handwritten digits, 8x8; indian-pines: a scene of 145x145 pixels "
            "and 200 bands."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
) -> None:
    """Write a small real data set that ships inside a dependency."""
    from pocketvision.data.samples import write_sample

    display.tell(f"Wrote {write_sample(name, folder)}")


app.command()(predicting.predict)
app.command()(integers.quantize)
app.command()(searching.search)
app.command()(shrinking.shrink)
app.command()(devices.profile)
app.command()(gates.verify)
app.command()(gates.reproduce)
app.command()(networks.models)
app.command()(networks.describe)
app.command()(networks.compare)
app.command()(networks.measure)
app.command()(doctor.doctor)
app.command("map")(scenes.map_scene)
