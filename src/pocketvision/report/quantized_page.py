"""The page of `quantize`: what was shipped, what it lost, and what each layer costs."""

from __future__ import annotations

from markupsafe import Markup

from pocketvision.record.run import QuantizationRecord
from pocketvision.report.html import OPEN_ROWS, STYLES, script_hash
from pocketvision.report.quantization_chart import quantization_chart
from pocketvision.report.quantization_rows import integer_rows
from pocketvision.report.templates import FOLDER, template


def render_quantized(record: QuantizationRecord) -> str:
    """The whole page as one HTML document that works offline; equal records give equal text."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    chart = quantization_chart(record.quantization)
    return template("quantized.html").render(
        record=record,
        integers=integer_rows(record.quantization),
        open_rows=OPEN_ROWS,
        charts={} if chart is None else {chart.id: chart},
        script=Markup(script),
        script_hash=script_hash(script),
        style=Markup("\n".join((FOLDER / name).read_text(encoding="utf-8") for name in STYLES)),
    )
