"""What is said of the INT8 file that passed its gate."""

from __future__ import annotations

import pytest

from pocketvision.compress.verdict import judgement
from pocketvision.record.files import Rung
from pocketvision.record.scores import Comparison, Score

SCORE = Score(value=0.9, low=0.88, high=0.92, correct=900, n=1000)
COMPARISON = Comparison(
    subject="int8",
    reference="float network",
    split="val",
    accuracy=SCORE,
    reference_accuracy=SCORE,
    drop=0.0,
    drop_low=-0.01,
    drop_high=0.01,
    agreement=1.0,
    largest_difference=0.1,
)


def rung(*float_layers: str) -> Rung:
    return Rung(
        kind="layers in float" if float_layers else "post-training",
        comparison=COMPARISON,
        latency=None,
        size_bytes=1_000_000,
        passed=True,
        seconds=1.0,
        float_layers=float_layers,
    )


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (rung(), "INT8: 0.00 points of top-1 lost on 1,000 images"),
        (rung("stem"), "INT8 with 1 layer in float: 0.00 points"),
        (rung("stem", "head"), "INT8 with 2 layers in float: 0.00 points"),
    ],
    ids=["none", "one", "two"],
)
def test_layers_left_in_float_are_counted(chosen: Rung, said: str) -> None:
    assert judgement([chosen], chosen, lost="top-1", max_drop_points=1.0).startswith(said)
