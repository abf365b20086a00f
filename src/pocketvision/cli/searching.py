"""The verb `search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from pocketvision.cli import display, options


def search(
    data: Annotated[Path, typer.Argument(help="Class folders, as for `fit`.")],
    latency: Annotated[str, typer.Option(help="Budget per image, such as 3ms.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    time: Annotated[
        str | None, typer.Option(help="Time for all of it, baselines included, such as 2h.")
    ] = None,
    size: options.Size = None,
    memory: options.Memory = None,
    space: Annotated[
        str | None,
        typer.Option(help="v3_large, v3_small, v2 or a .toml file; default: what fits the budget."),
    ] = None,
    resolution: options.Resolution = None,
    runtime: Annotated[
        str | None, typer.Option(help="Runtime whose latency it is; default: the fastest.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="f32, bf16 or int8; default: the fastest.")
    ] = None,
    threads: options.TargetThreads = None,
    target: options.Target = None,
    method: Annotated[
        options.Method,
        typer.Option(
            help="How members to score are found, rl beside evolution; work: nothing is scored, "
            "what does most within the latency is trained for all the time."
        ),
    ] = "evolution",
    objective: Annotated[
        options.Objective,
        typer.Option(help="What parents are best by: accuracy, the papers' reward, or the front."),
    ] = "accuracy",
    exponent: Annotated[
        float,
        typer.Option(
            help="w of the reward, ACC * (LAT / target)^w: -0.07 of MnasNet, -0.15 of "
            "MobileNetV3-Small."
        ),
    ] = -0.07,
    multiple: Annotated[
        int | None,
        typer.Option(help="Of channels, what the device likes; default: 8, or the space's."),
    ] = None,
    supernet_steps: Annotated[
        int | None, typer.Option(help="Training steps; default: what fits --time.")
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option(help="Members scored by each way to search; default: as above.")
    ] = None,
    netadapt: Annotated[
        bool, typer.Option(help="Narrow what was found until it is within the latency.")
    ] = True,
    baselines: Annotated[
        options.Baselines,
        typer.Option(help="What is trained beside the search, each for the same time."),
    ] = "all",
    weights: Annotated[
        str | None, typer.Option(help="Weights of a member to begin with, as for `fit`.")
    ] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    max_drop: options.MaxDrop = 1.0,
    flip: options.Flip = True,
    device: options.TuningDevice = "auto",
    devices: options.TuningDevices = 1,
    nodes: options.TuningNodes = 1,
    workers: options.WorkersOption = None,
    skip_bad: options.SkipBad = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Search for an architecture on your images and device, and ship the best of what time gave."""
    from pocketvision.fitting.config import fit_augmentation
    from pocketvision.fitting.pipeline import parse_budget
    from pocketvision.fitting.target_table import threads_asked
    from pocketvision.record.words import Precision
    from pocketvision.searching.search import run_search
    from pocketvision.searching.search_config import SearchConfig

    config = SearchConfig(
        data=str(data),
        budget=parse_budget(latency, size, time, memory),
        space=space,
        resolutions=tuple(resolution or ()),
        runtime=runtime,
        precision=cast("Precision | None", precision),
        threads=threads_asked(threads, target),
        target=target,
        method=method,
        objective=objective,
        exponent=exponent,
        multiple=multiple,
        supernet_steps=supernet_steps,
        evaluations=evaluations,
        netadapt=netadapt,
        baselines=baselines,
        weights=weights,
        epochs=epochs,
        batch_size=64 if batch_size is None else batch_size,
        augmentation=fit_augmentation(flip=flip, mixup=0.0, cutmix=0.0, min_scale=None),
        max_drop_points=max_drop,
        accelerator=device,
        devices=devices,
        nodes=nodes,
        workers=options.parse_workers(workers),
        skip_bad=skip_bad,
        seed=seed,
    )
    artefact = display.carried_out(
        lambda reporter, command: run_search(config, out, reporter, command=command)
    )
    display.print_artefact(artefact, as_json=json)
