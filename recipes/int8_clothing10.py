"""Where INT8 loses, layer by layer: MobileNetV3-Small on photos of clothes, and its picture.

python recipes/int8_clothing10.py CLOTHING10 > recipes/int8_clothing10.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from int8_tables import layer_table, lost
from int8_training import Training, trained
from matplotlib import pyplot
from plotting import ACCENT, SECOND, SOFT, machine_line, save, style, table, tidy

from pocketvision.budget import format_latency, format_size
from pocketvision.compress.layers import culprits
from pocketvision.fitting.quantize import QUANTIZATION, QuantizeConfig, run_quantize
from pocketvision.record.files import QuantizedLayer
from pocketvision.record.run import QuantizationRecord
from pocketvision.storage import from_json

NETWORK, TRAINING = "mobilenet_v3_small", Training(96, 12)
NAMED = 5  # layers in the table


def draw(layers: tuple[QuantizedLayer, ...], worst: set[str], picture: Path) -> None:
    """Noise of each layer inside the INT8 network, and of the logits when it is alone in it."""
    with style():
        figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
        places = np.arange(1, len(layers) + 1)
        colours = [SECOND if layer.name in worst else ACCENT for layer in layers]
        axes.bar(places, [layer.sqnr_db for layer in layers], color=colours, width=0.7)
        alone = [np.nan if one.alone_sqnr_db is None else one.alone_sqnr_db for one in layers]
        axes.plot(places, alone, "D", color=SOFT, markersize=3.5)
        axes.set_xlabel("layer, in the network's order")
        axes.set_ylabel("signal over noise, dB")
        axes.set_title(
            "bars: output of a layer inside the INT8 network; diamonds: the logits, when the layer "
            f"alone is in integers; the {len(worst)} that cost most in orange"
        )
        tidy(axes)
        save(figure, picture)


def page(record: QuantizationRecord, worst: list[QuantizedLayer]) -> list[str]:
    """The page, line by line."""
    files = []
    for one in record.variants:
        name = f"{one.runtime} {one.precision}{' (shipped)' if one.shipped else ''}"
        loss = "" if one.comparison is None else lost(one.comparison)
        median, size = format_latency(one.latency.median_ms), format_size(one.size_bytes)
        files.append((name, loss, median, size))
    headline = record.headline
    assert headline is not None
    return [
        "# What the integers of a MobileNetV3-Small cost, layer by layer",
        "",
        "```",
        "python recipes/int8_clothing10.py CLOTHING10 > recipes/int8_clothing10.md",
        "```",
        "",
        "![Signal over noise, layer by layer](images/int8_clothing10.svg)",
        "",
        record.quantization.sentence,
        "",
        *layer_table(worst),
        f"Files, judged on the n = {record.variants[-1].comparison.accuracy.n} photos of val:"
        if record.variants[-1].comparison
        else "",
        "",
        *table(("file", "lost, agreement", "median", "size"), files),
        f"On the n = {headline.accuracy.n} photos of test the shipped file loses {lost(headline)} "
        f"of the float network's {headline.reference_accuracy.value:.1%}. Trained here from new "
        f"weights, {TRAINING.epochs} epochs at {TRAINING.resolution} px, one seed.",
        "",
        machine_line(("torch", "onnxruntime", "openvino", "nncf"), 1),
    ]


def main() -> None:
    """Print the page, draw the picture."""
    parser = argparse.ArgumentParser(description="INT8 layer by layer on photos of clothes.")
    parser.add_argument("data", type=Path, help="folder with train/, val/, test/ of class folders")
    parser.add_argument("--work", type=Path, default=Path("clothing10-int8"), help="finished runs")
    parser.add_argument("--threads", type=int, default=2, help="of the training")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked = parser.parse_args()
    folder = trained(NETWORK, TRAINING, asked.data, asked.work, asked.threads)
    out = folder / "quantized"
    if not out.exists():
        config = QuantizeConfig(source=str(folder), images=str(asked.data))
        run_quantize(config, out, command=f"pocketvision quantize {NETWORK}")
    text = (out / QUANTIZATION).read_bytes()
    record = from_json(QuantizationRecord, text, source=str(out))
    layers = record.quantization.layers
    worst = culprits(layers)[:NAMED]
    draw(layers, {layer.name for layer in worst}, asked.out / "images" / "int8_clothing10.svg")
    print("\n".join(page(record, worst)))


if __name__ == "__main__":
    main()
