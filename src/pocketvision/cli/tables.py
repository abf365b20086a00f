"""Tables about networks: the list, the description of one, several side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from pocketvision.budget import count_of, format_latency, format_size
from pocketvision.cli.display import show, table, tell

if TYPE_CHECKING:
    from pocketvision.measure.activations import ActivationMemory
    from pocketvision.measure.rows import LayerRow
    from pocketvision.measure.summary import Description, Share
    from pocketvision.models.published import Point
    from pocketvision.report.side_by_side import Side, SideBySide


def print_models(names: list[str]) -> None:
    """The networks with what the papers report, their other spellings and widths."""
    from pocketvision.models.published import PUBLISHED
    from pocketvision.models.registry import ALIASES, MODELS, resolve, widths

    grid = table("", "name", ">top-1", "at", "fit", "widths tried", "also called")
    for name in names:
        known, _ = resolve(name)
        point, entry = _usual_point(PUBLISHED[known]), MODELS[known]
        same = (
            alias
            for alias, (ours, options) in ALIASES.items()
            if ours == known and alias != name and "width" not in options
        )
        grid.add_row(
            name,
            f"{point.top1:.1%}",
            f"x{point.width:g} @{point.resolution}",
            "yes" if entry.planned else "asked",
            ", ".join(map(str, widths(name))),
            ", ".join(same),
        )
    show(grid)
    tell('top-1: ImageNet, as published. fit: "asked" is considered only where --models names it.')


def _usual_point(points: tuple[Point, ...]) -> Point:
    """Width 1 at 224 px where it was published, else the first of the table."""
    usual = (point for point in points if (point.width, point.resolution) == (1.0, 224))
    return next(usual, points[0])


def print_description(found: Description) -> None:
    """The network's table, the shares of the types of layers, and the totals."""
    columns = ("block", ">input", "operator", "details", ">c", ">n", ">s", ">MACs", ">parameters")
    grid = table(found.label, *columns)
    for row in found.rows:
        head = row.blocks == "head"
        grid.add_row(
            row.blocks,
            "x".join(map(str, row.in_shape)),
            row.kind,
            escape(row.details),
            str(row.c),
            "" if head else str(row.n),
            "" if head else str(row.s),
            f"{row.macs:,}",
            f"{row.parameters:,}",
        )
    show(grid)
    tell("")
    _print_shares(found.shares)
    totals = found.totals
    for line in (
        "",
        f"{totals.parameters:,} parameters, {totals.macs:,} MACs, "
        f"peak activations {format_size(totals.peak_activation_bytes)} in float32",
        f"Input size                  {_megabytes(totals.input_bytes)}",
        f"Forward/backward pass size  {_megabytes(totals.activation_bytes)}   outputs of the "
        "convolutions and linear layers x 2",
        f"Parameters size             {_megabytes(totals.parameter_bytes)}",
        f"Estimated total size        {_megabytes(totals.total_bytes)}   batch 1, float32, "
        "1 MB = 10^6 bytes",
    ):
        tell(line)


def _print_shares(shares: tuple[Share, ...]) -> None:
    columns = ("type of layer", ">layers", ">MACs", ">parameters", ">without norms and biases")
    grid = table("", *columns)
    for share in shares:
        parts = (share.macs_share, share.parameters_share, share.weights_share)
        grid.add_row(share.type, str(share.layers), *(f"{part:.2%}" for part in parts))
    show(grid)


def print_layers(rows: tuple[LayerRow, ...]) -> None:
    """Every convolution and linear layer."""
    from pocketvision.measure.summary import layer_type

    columns = ("type", ">input", ">output", ">kernel", ">groups", ">MACs", ">parameters")
    grid = table("\nLayers", "block", *columns)
    for row in rows:
        layer = row.layer
        grid.add_row(
            row.block,
            layer_type(layer),
            _shape(layer.in_size, layer.c_in),
            _shape(layer.out_size, layer.c_out),
            f"{layer.kernel}x{layer.kernel}",
            str(layer.groups),
            f"{layer.macs:,}",
            f"{layer.parameters:,}",
        )
    show(grid)


def print_memory(memory: ActivationMemory) -> None:
    """M(G) of MobileNetV2, section 5.1, in kB for every number of slices t."""
    slices = tuple(memory.peak_bytes)
    bits = 8 * memory.bytes_per_element
    title = f"\nActivation memory M(G) in kB at {bits} bits, with expansions in t slices"
    grid = table(title, "", "operator", *(f">t={t}" for t in slices))
    for block in memory.blocks:
        sizes = (_kilobytes(block.bytes_by_slices[t]) for t in slices)
        grid.add_row(block.name, block.kind.replace("_", " "), *sizes)
    grid.add_row("M(G)", "", *(_kilobytes(memory.peak_bytes[t]) for t in slices), style="bold")
    show(grid)
    tell(_floor_sentence(memory))


def _floor_sentence(memory: ActivationMemory) -> str:
    """What sets the floor, what stays whole, and what needs two passes."""
    most = max(memory.peak_bytes)
    whole = [block for block in memory.blocks if len(set(block.bytes_by_slices.values())) == 1]
    largest = max(whole, key=lambda block: block.bytes_by_slices[most])
    taken = _kilobytes(largest.bytes_by_slices[most])
    two = [block.name for block in memory.blocks if block.two_passes]
    passes = (
        f"More than one slice means two passes over {_listed(two)}, whose squeeze-and-excitation "
        "needs all means first."
        if two
        else "No block needs a second pass."
    )
    stem = " (the stem)" if largest is memory.blocks[0] else ""
    return (
        f"With t = {most}, the most memory is taken by {_listed(list(memory.floor))}; the largest "
        f"that cannot be sliced is {largest.name}{stem}, {taken}. {passes}"
    )


def print_side_by_side(found: SideBySide) -> None:
    """One line per network, or per file where they were timed."""
    columns = ["network", ">top-1", "source", ">MACs", ">parameters", ">peak activations"]
    if found.machine is not None:
        columns += ["runtime", "precision", ">size", ">latency", ">95 % interval", ">images/s"]
    grid = table("", *columns)
    for side in found.networks:
        known = (
            escape(side.network),
            f"{side.published.top1:.1%}",
            side.published.source,
            f"{side.macs:,}",
            f"{side.parameters:,}",
            format_size(side.peak_activation_bytes),
        )
        for number, files in enumerate(_file_columns(side) or [()]):
            grid.add_row(*(known if number == 0 else ("",) * len(known)), *files)
    show(grid)
    tell("top-1: ImageNet, of the float network: the papers, or their authors' checkpoints.")
    if found.machine is None:
        return
    threads = count_of(found.threads, "thread")
    tell(
        f"latency: median of 1 image; images/s: batches of {found.batch}; timed in turns, {threads}"
        f", {found.machine.cpu}"
    )
    for side in found.networks:
        for file in side.files:
            if noise := file.latency.noise or file.batched.noise:
                line = f"{side.network}, {file.runtime} {file.precision}: {noise}"
                tell(line)


def _file_columns(side: Side) -> list[tuple[str, ...]]:
    return [
        (
            file.runtime,
            file.precision,
            format_size(file.size_bytes),
            "too noisy" if file.latency.noise else format_latency(file.latency.median_ms),
            f"{file.latency.low_ms:.3g} to {file.latency.high_ms:.3g}",
            "too noisy" if file.batched.noise else f"{file.images_per_s:,.4g}",
        )
        for file in side.files
    ]


def _shape(size: tuple[int, int], channels: int) -> str:
    return f"{size[0]}x{size[1]}x{channels}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:8.2f} MB"


def _kilobytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e3:,.0f}"


def _listed(names: list[str]) -> str:
    """'block 4, 5 and 6'-like lists: "block 4, block 5 and block 6"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
