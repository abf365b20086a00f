"""Print the figures of one record.json as Markdown, with command, machine, threads and versions.

python scripts/figures.py fitted/record.json > recipes/NAME.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from pocketvision.budget import format_size, format_time
from pocketvision.record.files import Variant
from pocketvision.record.run import Record
from pocketvision.record.scores import Comparison
from pocketvision.storage import from_json


def lines(record: Record) -> list[str]:
    """The page, line by line."""
    machine, network, top1 = record.machine, record.network, record.headline
    splits = ", ".join(f"{s.name} {sum(s.counts)}" for s in record.data.splits)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return [
        f"# {network.label}: {top1.value:.1%} of {top1.n} {record.data.headline_split} images",
        "",
        record.verdict.sentence,
        "",
        "```",
        record.command,
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| Images | {splits}; {len(record.data.classes)} classes |",
        f"| Training | {len(record.epochs)} epochs, {network.start}, seed {record.seed} |",
        f"| Session | {', '.join(f'{k} {v}' for k, v in record.shipped.options.items())} |",
        f"| Wall clock | {format_time(record.spent_s)} |",
        f"| Machine | {machine.cpu}, {machine.cores} cores, {', '.join(machine.features)} |",
        f"| System | {machine.system}, Python {machine.python} |",
        f"| Versions | {versions} |",
        f"| Load at the end | {machine.load:.2f} |",
        f"| Data fingerprint | `{record.data.fingerprint[:16]}` |",
        "",
        "Accuracy from image files, each file against the float network on the same images (n = "
        f"{top1.n}, {record.data.headline_split}):",
        "",
        "| file | top-1 (95 % interval) | drop in points (95 % interval) | agreement |",
        "|---|---|---|---|",
        *(comparison_line(comparison) for comparison in record.verification),
        "",
        "Latency of one image, median with the 95 % interval of the median and 95th percentile; "
        f"{record.budget.threads} thread:",
        "",
        "| file | size | peak memory | latency | p95 | runs | gate |",
        "|---|---|---|---|---|---|---|",
        *(variant_line(variant) for variant in record.variants),
    ]


def comparison_line(found: Comparison) -> str:
    """One row of the table of accuracies."""
    top1 = found.accuracy
    return (
        f"| {found.subject} | {top1.value:.2%} ({top1.low:.2%} to {top1.high:.2%}) | "
        f"{100 * found.drop:.2f} ({100 * found.drop_low:.2f} to {100 * found.drop_high:.2f}) | "
        f"{found.agreement:.2%} |"
    )


def variant_line(variant: Variant) -> str:
    """One row of the table of latencies."""
    latency = variant.latency
    shipped = " (shipped)" if variant.shipped else ""
    memory = "–" if variant.peak_bytes is None else format_size(variant.peak_bytes)
    return (
        f"| {variant.precision} on {variant.runtime}{shipped} | "
        f"{format_size(variant.size_bytes)} | {memory} | "
        f"{latency.median_ms:.3g} ms ({latency.low_ms:.3g} to {latency.high_ms:.3g}) | "
        f"{latency.p95_ms:.3g} ms | {latency.runs} | {'pass' if variant.passed_gate else 'fail'} |"
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    print("\n".join(lines(from_json(Record, path.read_bytes(), source=str(path)))))
