import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.report import text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (3.2, "3.20"),
        (42.04, "42.0"),
        (999.4, "999"),
        (1234.5, "1,234"),
        (-1.5, "−1.50"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
    ],
)
def test_significant_writes_three_digits_without_exponent(value: float, written: str) -> None:
    assert text.significant(value) == written


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_significant_is_within_half_a_percent(value: float) -> None:
    written = float(text.significant(value).replace(",", ""))
    assert math.isclose(written, value, rel_tol=5.1e-3)


def test_quantities_have_their_units() -> None:
    assert text.percent(0.8734) == "87.3 %"
    assert text.percent_range(0.841, 0.9) == "84.1 to 90.0 %"
    assert text.points(-0.004) == "−0.4"
    assert text.points(0.00004) == "0.0"
    assert text.points_range(-0.011, 0.004) == "−1.1 to +0.4"
    assert text.megabytes(1_234_567) == "1.23 MB"
    assert text.decibels(31.24) == "31.2 dB"
    assert text.decibels(-3.1) == "−3.1 dB"
    assert text.decibels(-0.04) == "0.0 dB"
    assert text.decibels(math.inf) == "not finite"
    assert text.millions(2_540_000) == "2.54 M"
    assert text.ratio(2.0, 4.0) == "×0.50"
    assert text.tiny(3.14e-6) == "3.1e-06"
    assert text.threads(1) == "1 thread"
    assert text.threads(4) == "4 threads"


@given(st.text(max_size=80))
def test_clipped_keeps_both_ends(name: str) -> None:
    short = text.clipped(name)
    assert len(short) <= 24
    assert name.startswith(short[:10])
    assert name.endswith(short[-6:])


@given(st.text())
def test_markdown_is_one_line_without_live_tags(name: str) -> None:
    written = text.markdown(name)
    assert len(written.splitlines()) <= 1
    assert "<" not in written
    assert ">" not in written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("golden-retriever", "golden-retriever"),
        ("a | b", r"a \| b"),
        ("*a* [b](c)", r"\*a\* \[b\](c)"),
        ("www.a.example", r"www\.a.example"),
        ("http://a.example", r"http\://a.example"),
        ("1. one", r"1\. one"),
        ("- one", r"\- one"),
        ("2026-03-14", "2026-03-14"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_escapes_what_would_be_read(name: str, written: str) -> None:
    assert str(text.markdown(name)) == written


def test_a_fence_is_longer_than_any_in_its_content() -> None:
    assert str(text.markdown_fence("a ```` b")) == "`````\na ```` b\n`````"


def test_plotly_text_leaves_no_tag() -> None:
    assert text.plotly_text('<a href="x">&\n y') == '&lt;a href="x"&gt;&amp; y'
