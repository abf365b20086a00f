"""Where the time of INT8 goes, in words."""

from __future__ import annotations

from pocketvision.compress.explain import explain, operator_times
from pocketvision.runtimes.runtime import OperatorRuns


def runs(**kinds: tuple[int, float]) -> list[OperatorRuns]:
    return [
        OperatorRuns(name=f"{kind} {k}", operator=kind, times_ms=(ms, ms, 10 * ms))
        for kind, (count, ms) in kinds.items()
        for k in range(count)
    ]


def test_operators_of_a_kind_are_added_up_by_their_medians() -> None:
    found = operator_times(runs(Conv=(3, 0.5), Add=(2, 0.1)))
    assert [(one.operator, one.count, round(one.total_ms, 6)) for one in found] == [
        ("Conv", 3, 1.5),
        ("Add", 2, 0.2),
    ]


def test_what_is_no_product_is_named_with_its_share() -> None:
    sentence = explain(
        runs(Conv=(4, 1.0)), runs(QLinearConv=(4, 0.5), QLinearMul=(29, 0.05), LeakyRelu=(2, 0.02))
    )
    assert sentence.startswith(
        "Convolutions and matrix products take 2 ms in integers and 4 ms in float."
    )
    assert "43% of the time in integers goes to the rest: QLinearMul (29) 1.45 ms" in sentence


def test_products_alone_need_no_second_sentence() -> None:
    assert explain(runs(Conv=(1, 1.0)), runs(QLinearConv=(1, 0.5))).count(".") == 2
