"""The verb `shrink`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from pocketvision.cli import display, options, scenes


def shrink(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="What `fit` wrote.")],
    images: Annotated[
        Path,
        typer.Option(
            help="As `fit` takes them, of the network's classes; or the scene it was fitted to."
        ),
    ],
    latency: Annotated[
        str, typer.Option(help="Budget per image, or per pixel from its window, such as 2ms.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    size: options.Size = None,
    memory: options.Memory = None,
    time: Annotated[str | None, typer.Option(help="Time for all of it, such as 30m.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Runtime whose latency it is; default: the fastest.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="f32, bf16 or int8; default: the fastest.")
    ] = None,
    target: options.Target = None,
    threads: options.TargetThreads = None,
    step: Annotated[
        float, typer.Option(help="Share of the latency that each step cuts at least.")
    ] = 0.01,
    multiple: Annotated[int, typer.Option(help="Of channels, what the device likes.")] = 8,
    brief_steps: Annotated[
        int, typer.Option(help="Training steps of each proposal before it is judged.")
    ] = 20,
    epochs: Annotated[
        int | None, typer.Option(help="Of the fine-tuning at the end; default: what fits --time.")
    ] = None,
    max_drop: options.MaxDrop = 1.0,
    flip: options.Flip = True,
    device: options.TuningDevice = "auto",
    devices: options.TuningDevices = 1,
    nodes: options.TuningNodes = 1,
    workers: options.WorkersOption = None,
    skip_bad: options.SkipBad = False,
    void: options.Void = None,
    labels: options.Labels = None,
    steps: options.Steps = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Make a fitted network as fast as asked, by narrowing it where that costs least (NetAdapt)."""
    from pocketvision.mapping.artefact import is_scene_folder

    is_scene = is_scene_folder(source)
    scenes.refuse_options_of_other_network(context, is_scene)
    if is_scene:
        scenes.shrink(
            source,
            images,
            out,
            budget=(latency, size, time),
            labels=labels,
            step=step,
            multiple=multiple,
            brief_steps=brief_steps,
            steps=steps,
            max_drop=max_drop,
            target=target,
            workers=workers,
            json=json,
        )
        return
    from pocketvision.fitting.config import fit_augmentation
    from pocketvision.fitting.pipeline import parse_budget
    from pocketvision.fitting.target_table import threads_asked
    from pocketvision.record.words import Precision
    from pocketvision.searching.shrink import run_shrink
    from pocketvision.searching.shrink_config import ShrinkConfig

    config = ShrinkConfig(
        source=str(source),
        images=str(images),
        budget=parse_budget(latency, size, time, memory),
        runtime=runtime,
        precision=cast("Precision | None", precision),
        threads=threads_asked(threads, target),
        target=target,
        step=step,
        multiple=multiple,
        brief_steps=brief_steps,
        augmentation=fit_augmentation(flip=flip, mixup=0.0, cutmix=0.0, min_scale=None),
        epochs=epochs,
        max_drop_points=max_drop,
        accelerator=device,
        devices=devices,
        nodes=nodes,
        workers=options.parse_workers(workers),
        skip_bad=skip_bad,
        void=tuple(void or ()),
        seed=seed,
    )
    artefact = display.carried_out(
        lambda reporter, command: run_shrink(config, out, reporter, command=command)
    )
    display.print_artefact(artefact, as_json=json)
