"""The sentences every part shares."""

from __future__ import annotations

import math

import pytest

from pocketvision import errors


def test_choice_lists_what_is_allowed_and_hints_at_the_nearest() -> None:
    with pytest.raises(
        errors.ConfigError,
        match=r"act='hardswish' is unknown; expected one of \['hswish', 'relu'\]\. "
        r"Did you mean 'hswish'\?",
    ):
        errors.choice("act", "hardswish", ("relu", "hswish"))
    assert errors.choice("act", "relu", ("relu", "hswish")) == "relu"


def test_hint_prefers_names_that_go_on_as_typed() -> None:
    names = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
    assert errors.did_you_mean("mobilenet_v3", names) == " Did you mean 'mobilenet_v3_large'?"
    assert errors.did_you_mean("", names) == ""


def test_choice_does_not_guess_wildly() -> None:
    with pytest.raises(errors.ConfigError, match=r"\]\.$"):
        errors.choice("act", "zzz", ("relu",))


@pytest.mark.parametrize("value", [-1.0, 2.0, math.nan, math.inf])
def test_in_range_refuses_what_lies_outside(value: float) -> None:
    with pytest.raises(errors.ConfigError, match=r"rate=.* is out of range; expected 0 to 1"):
        errors.in_range("rate", value, 0, 1)


def test_check_shape_says_both_shapes() -> None:
    errors.check_shape("pixels", (2, 8, 8, 3), (None, 8, 8, 3))
    with pytest.raises(errors.ConfigError, match="pixels is 2x8x8; expected anyx8x8x3"):
        errors.check_shape("pixels", (2, 8, 8), (None, 8, 8, 3))


def test_missing_extra_is_named() -> None:
    with pytest.raises(
        errors.MissingExtraError,
        match=r"needs no_such_package.*pip install 'pocketvision\[openvino\]'",
    ):
        errors.require("no_such_package.part", "openvino")


def test_exit_codes_follow_the_tree() -> None:
    codes = {
        errors.ConfigError: 2,
        errors.DataError: 2,
        errors.ArtefactError: 2,
        errors.MissingExtraError: 2,
        errors.GateError: 1,
        errors.BudgetError: 3,
    }
    assert {kind: kind.exit_code for kind in codes} == codes
    assert all(issubclass(kind, errors.PocketvisionError) for kind in codes)
