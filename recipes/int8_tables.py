"""Tables that the INT8 recipes share: the layers that cost most, what was lost."""

from __future__ import annotations

from collections.abc import Sequence

from plotting import table

from pocketvision.record.files import QuantizedLayer
from pocketvision.record.scores import Comparison


def layer_table(layers: Sequence[QuantizedLayer]) -> list[str]:
    """Layers with their share of the arithmetic, range and noise, as Markdown."""
    rows = [
        (
            layer.name,
            layer.operator,
            f"{layer.macs_share:.1%}",
            f"{layer.low:.3g} to {layer.high:.3g}, {layer.ranges}",
            f"{layer.sqnr_db:.1f}",
            "" if layer.alone_sqnr_db is None else f"{layer.alone_sqnr_db:.1f}",
        )
        for layer in layers
    ]
    return table(("layer", "operator", "MACs", "input", "SQNR, dB", "logits alone, dB"), rows)


def lost(found: Comparison) -> str:
    """Points lost, with the interval, and agreement."""
    return (
        f"{100 * found.drop:+.2f} ({100 * found.drop_low:+.2f} to {100 * found.drop_high:+.2f}), "
        f"{found.agreement:.1%}"
    )
