"""The verb `quantize`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketvision.budget import format_latency, format_size
from pocketvision.cli import display, options

if TYPE_CHECKING:
    from pocketvision.record.run import QuantizationRecord


def quantize(
    source: Annotated[
        str,
        typer.Argument(
            help="What `fit` wrote, weights of a known network, or an exported ONNX file."
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(help="Class folders; or a folder of images, which have no labels then."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    max_drop: Annotated[
        float,
        typer.Option(
            help="Points of top-1 that may be lost; of agreement where labels are missing."
        ),
    ] = 1.0,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Runtime to make files for; may be repeated. Default: all installed."),
    ] = None,
    threads: options.Threads = 1,
    epochs: Annotated[
        int, typer.Option(help="Of training for integers where nothing else passes; 0: none.")
    ] = 5,
    explain: Annotated[
        bool, typer.Option(help="Measure what each layer costs alone, even where all is well.")
    ] = True,
    skip_bad: options.SkipBad = False,
    seed: Annotated[int, typer.Option(help="Of the choice of images and of training.")] = 0,
    json: options.Json = False,
) -> None:
    """Make a network's INT8 file, prove what it loses and gains, and say what each layer costs."""
    from pocketvision.fitting.quantize import QUANTIZATION, QuantizeConfig, run_quantize

    config = QuantizeConfig(
        source=source,
        images=str(images),
        max_drop_points=max_drop,
        runtimes=tuple(runtime or ()),
        threads=threads,
        epochs=epochs,
        explain=explain,
        skip_bad=skip_bad,
        seed=seed,
    )
    try:
        record = run_quantize(
            config,
            out,
            display.TerminalReporter(),
            command=shlex.join(["pocketvision", *sys.argv[1:]]),
        )
    except KeyboardInterrupt:
        display.tell("Interrupted; nothing was written.", display.err)
        raise typer.Exit(130) from None
    if json:
        display.print_file(out / QUANTIZATION)
    else:
        print_quantized(record, out)


def print_quantized(record: QuantizationRecord, out: Path) -> None:
    """The files side by side, the culprits, and where the page is."""
    from pocketvision.compress.layers import culprits

    grid = display.table("", "file", "gate", ">lost", ">agreement", ">median", ">size")
    for one in record.variants:
        found = one.comparison
        grid.add_row(
            f"{one.runtime} {one.precision}{' (shipped)' if one.shipped else ''}",
            "passed" if one.passed_gate else "failed",
            "" if found is None else f"{100 * found.drop:+.2f}",
            "" if found is None else f"{found.agreement:.1%}",
            "too noisy" if one.latency.noise else format_latency(one.latency.median_ms),
            format_size(one.size_bytes),
        )
    display.show(grid)
    worst = culprits(record.quantization.layers)[:3]
    names = ", ".join(f"{layer.name} ({layer.operator})" for layer in worst)
    lines = [record.quantization.sentence, record.explanation]
    lines += [f"What costs most in integers: {names}." if names else ""]
    lines += [f"The page: {out / 'report.html'}"]
    for line in filter(None, lines):
        display.tell(line)
