"""LR-ASPP or SSDLite on several networks, the same minutes each: float and INT8 on test images.

    python recipes/places.py segment CAMVID --void 11 --page recipes/camvid.md
    python recipes/places.py detect BCCD --resolution 320 --page recipes/bccd.md

Each network is a whole `fit`; finished ones lie in --work and are not made again, and one that was
interrupted goes on when the same command is given. With --narrow 0.7 each is also narrowed by
NetAdapt to that share of the latency of the file that shipped, with as many minutes again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from int8_tables import lost
from plotting import machine_line, table

from pocketvision.budget import Budget, format_latency, format_size
from pocketvision.cli.display import TerminalReporter
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import BudgetError, GateError
from pocketvision.fitting.artefact import RECORD, Artefact, load
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.pipeline import run_fit
from pocketvision.record.files import Variant
from pocketvision.record.run import Record
from pocketvision.record.scores import Comparison
from pocketvision.record.words import TaskName
from pocketvision.report.search_rows import narrowing_sentence
from pocketvision.report.text import metric_name
from pocketvision.searching.shrink import run_shrink
from pocketvision.searching.shrink_config import ShrinkConfig
from pocketvision.storage import write_atomic

HEADS = {"segment": "LR-ASPP", "detect": "SSDLite"}
GIVEN = {"segment": "the class of every pixel", "detect": "boxes and probabilities"}
CLASS_SCORES = {"segment": "IoU", "detect": "AP"}
NETWORKS = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line said. networks: names, or files of weights to fine-tune from. minutes:
    of each, planning and shipping included. narrow: to that share of the latency; None: not at all.
    """

    task: TaskName
    data: Path
    networks: tuple[str, ...]
    resolution: int
    minutes: float
    narrow: float | None
    void: tuple[int, ...]
    seed: int
    work: Path
    page: Path


def fitted(asked: Options, name: str) -> Artefact:
    """The network on a backbone of that name, or that begins with that file of weights.

    Raises: GateError: no file of it can be shipped.
    """
    out = asked.work / asked.task / Path(name).stem
    if (out / RECORD).exists():
        return load(out)
    is_file = Path(name).is_file()
    config = FitConfig(
        data=str(asked.data),
        task=asked.task,
        budget=Budget(time_s=60 * asked.minutes),
        models=() if is_file else (name,),
        widths=() if is_file else (1.0,),
        weights=name if is_file else None,
        resolutions=(asked.resolution,),
        runtimes=("onnxruntime",),
        void=asked.void,
        skip_bad=True,
        seed=asked.seed,
    )
    return run_fit(config, out, TerminalReporter())


def narrowed(asked: Options, begun: Artefact, share: float) -> Artefact:
    """The same network, narrowed to a share of the latency of its file.

    Raises: GateError: no file of it can be shipped. BudgetError: the minutes are too few.
    """
    out = asked.work / asked.task / f"{begun.folder.name}-narrowed"
    if (out / RECORD).exists():
        return load(out)
    (shipped,) = (variant for variant in begun.record.variants if variant.shipped)
    config = ShrinkConfig(
        source=str(begun.folder),
        images=str(asked.data),
        budget=Budget(latency_ms=share * shipped.latency.median_ms, time_s=60 * asked.minutes),
        runtime=shipped.runtime,
        augmentation=Augmentation(),
        void=asked.void,
        skip_bad=True,
        seed=asked.seed,
    )
    return run_shrink(config, out, TerminalReporter())


def row(record: Record) -> tuple[str, ...]:
    """One network: its score in float and in INT8 on test, and what each file takes."""
    files = {variant.precision: variant for variant in record.variants}
    found = _comparison(record, files["int8"])
    return (
        _name(record),
        f"{record.network.parameters / 1e6:.2f} M, {record.network.macs / 1e6:,.0f} M",
        f"{len(record.epochs)}, {record.spent_s / 60:.1f}",
        _score(_comparison(record, files["f32"])),
        format_latency(files["f32"].latency.median_ms),
        _score(found),
        format_latency(files["int8"].latency.median_ms),
        "" if found is None else lost(found),
        f"{record.shipped.precision}, {format_size(record.shipped.size_bytes)}",
    )


def _name(record: Record) -> str:
    if record.narrowing is not None:
        return f"{record.network.name}, narrowed"
    scratch = record.network.start == "from scratch"
    return f"{record.network.name}, {'from scratch' if scratch else 'fine-tuned'}"


def _comparison(record: Record, variant: Variant) -> Comparison | None:
    """Of one file on the headline split; the shipped one goes by that name there."""
    name = "shipped" if variant.shipped else f"{variant.precision} on {variant.runtime}"
    return next((one for one in record.verification if one.subject == name), None)


def _score(found: Comparison | None) -> str:
    if found is None:
        return ""
    score = found.accuracy
    return f"{100 * score.value:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f})"


def _points(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def class_lines(records: Sequence[Record]) -> list[str]:
    """By class, of the shipped files."""
    columns: list[tuple[float | None, ...]] = []
    for record in records:
        if record.segmentation is not None:
            columns.append(record.segmentation.class_ious)
        elif record.detection is not None:
            columns.append(record.detection.class_aps)
    names = records[0].data.classes
    rows = [(name, *(_points(column[k]) for column in columns)) for k, name in enumerate(names)]
    return table(("class", *map(_name, records)), rows)


def size_lines(records: Sequence[Record]) -> list[str]:
    """COCO's other figures of the shipped files; nothing of a segmentation."""
    rows = []
    for record in records:
        if (found := record.detection) is None:
            return []
        figures = (found.ap50, found.ap75, found.ap_small, found.ap_medium, found.ap_large)
        rows.append((_name(record), *map(_points, (*figures, found.recall))))
    titles = ("network", "AP50", "AP75", "small", "medium", "large", "recall of 100 boxes")
    return table(titles, rows)


def narrowing_lines(records: Sequence[Record]) -> list[str]:
    """A sentence on each narrowing."""
    lines = []
    for record in records:
        if record.narrowing is not None:
            lines += [narrowing_sentence(record.narrowing), ""]
    return lines


def command(asked: Options) -> str:
    """As it was given, but for paths."""
    names = [name for name in asked.networks if not Path(name).is_file()]
    files = len(asked.networks) - len(names)
    networks = f"--networks {' '.join(names)} " if names != list(NETWORKS) else ""
    networks += f"--weights {' '.join(['WEIGHTS'] * files)} " if files else ""
    void = f"--void {' '.join(map(str, asked.void))} " if asked.void else ""
    void += "" if asked.narrow is None else f"--narrow {asked.narrow:g} "
    return (
        f"python recipes/places.py {asked.task} DATA --resolution {asked.resolution} "
        f"--minutes {asked.minutes:g} {networks}{void}--page PAGE"
    )


def page(asked: Options, records: Sequence[Record], notes: Sequence[str]) -> list[str]:
    """The page, line by line."""
    first = records[0]
    metric, split = first.headline.metric, first.data.headline_split
    images = ", ".join(f"{one.name} {one.total}" for one in first.data.splits)
    titles = (
        *("network", "parameters, MACs", "epochs, min in all", f"{metric}, float", "ms, float"),
        *(f"{metric}, INT8", "ms, INT8", "lost by INT8, agreement", "shipped"),
    )
    return [
        f"# {HEADS[asked.task]} at {asked.resolution} px, {asked.minutes:g} minutes a network",
        "",
        "```",
        command(asked),
        "```",
        "",
        f"{metric_name(metric)} ({metric}) of the files on the {first.headline.n} images of "
        f"{split}, read from image files, in points with a 95 % bootstrap interval over images. "
        f"**Shortened**: {asked.minutes:g} minutes were asked for each network on the processor "
        "below, with measuring and shipping; more epochs would give more. What INT8 loses is "
        "compared in pairs, image by image.",
        "",
        *narrowing_lines(records),
        *table(titles, [row(record) for record in records]),
        *size_lines(records),
        f"{CLASS_SCORES[asked.task]} by class, of the file that ships:",
        "",
        *class_lines(records),
        *notes,
        f"Images: {images}; seed {asked.seed}. Latency: one image a run, median, ONNX Runtime, "
        f"from uint8 pixels to {GIVEN[asked.task]}. The files of one network are timed in turns, "
        "those of different networks minutes apart: on a machine that shares its cores these can "
        "differ by more than the networks do.",
        "",
        machine_line(("torch", "onnxruntime"), 1),
    ]


def options() -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=tuple(HEADS))
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="from scratch")
    parser.add_argument("--weights", nargs="*", default=[], help="files to fine-tune from too")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--narrow", type=float, help="to that share of each latency, too")
    parser.add_argument("--void", type=int, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("places-work"))
    parser.add_argument("--page", type=Path, required=True)
    given = vars(parser.parse_args())
    given["networks"] = [*given["networks"], *given.pop("weights")]
    words: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value := given[field.name], list) else value
        for field in fields(Options)
    }
    return Options(**words)


def main() -> None:
    """Fit what is not fitted yet, and write the page."""
    asked = options()
    records, notes = [], []
    for name in asked.networks:
        try:
            records.append((begun := fitted(asked, name)).record)
            if asked.narrow is not None:
                records.append(narrowed(asked, begun, asked.narrow).record)
        except (BudgetError, GateError) as error:
            notes += [f"{Path(name).stem}: {error}", ""]
    write_atomic(asked.page, "\n".join([*page(asked, records, notes), ""]))


if __name__ == "__main__":
    main()
