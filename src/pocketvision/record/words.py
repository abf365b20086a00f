"""The words of the schema: precisions, tasks, metrics, and what is to know about a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# w8: weights in 8 bits, arithmetic in float.
Precision = Literal["f32", "bf16", "int8", "w8"]
TaskName = Literal["classify", "segment", "detect"]
Metric = Literal["top-1", "mIoU", "mAP"]
Sampling = Literal["evolution", "random", "rl", "work"]
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing to know about data or a training; the sentence holds the figures and what to do."""

    severity: Severity
    code: str
    sentence: str
