"""The verbs on networks and files alone: no images are needed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pocketvision.cli import display, options, tables
from pocketvision.errors import ConfigError


def models(
    pattern: Annotated[str, typer.Argument(help="Such as 'mobilenet_v3*'.")] = "*",
    json: options.Json = False,
) -> None:
    """List the networks, with the papers' accuracy on ImageNet."""
    from pocketvision.models.registry import find_models

    names = find_models(pattern)
    if json:
        display.print_json(names)
    else:
        tables.print_models(names)


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
    json: options.Json = False,
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
        typer.Option(help="f32, bf16, int8, or w8, weights alone in 8 bits; default: all but w8."),
    ] = None,
    threads: options.Threads = 1,
    batch: Annotated[int, typer.Option(help="Images at a time for the throughput.")] = 8,
    out: Annotated[
        Path | None, typer.Option(help="Page to write, such as comparison.html; must not exist.")
    ] = None,
    json: options.Json = False,
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
        display.tell(f"Wrote {out}", display.err)


def measure(
    path: Annotated[Path, typer.Argument(help="Any ONNX file, or a folder that `fit` wrote.")],
    batch: Annotated[
        int, typer.Option(help="Images at a time for the throughput; 1 leaves it out.")
    ] = 1,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Of an input with open axes: x=1,3,224,224; may be repeated."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads; a fitted folder has its own.", show_default="1"),
    ] = None,
    json: options.Json = False,
) -> None:
    """Time an ONNX file or a fitted network on this machine, with 95 % intervals."""
    reporter = display.TerminalReporter()
    if path.is_dir():
        from pocketvision.fitting.measuring import measure_fitted

        if shape or threads is not None:
            raise ConfigError(
                f"{path} is measured under the options it was recorded with; --shape and "
                "--threads are for ONNX files."
            )
        timing = measure_fitted(path, batch=batch, reporter=reporter)
    else:
        from pocketvision.measure.onnxfile import measure_file, parse_shapes
        from pocketvision.progress import counted

        shapes = parse_shapes(shape or [])
        with reporter.progress("Measuring") as advance:
            timing = measure_file(
                path,
                1 if threads is None else threads,
                shapes=shapes,
                batch=batch,
                progress=counted(advance),
            )
    if json:
        display.print_json(asdict(timing))
    else:
        display.print_timing(timing)
