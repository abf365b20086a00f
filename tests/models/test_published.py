import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.published import PUBLISHED, Point, prior

POINTS = [(name, point) for name, points in PUBLISHED.items() for point in points]
SEVERAL = [name for name, points in PUBLISHED.items() if len(points) > 1]


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_macs_beside_each_figure_are_what_is_counted(name: str, point: Point) -> None:
    assert count(registry.spec(name, width=point.width, resolution=point.resolution)).macs == (
        point.macs
    )


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_published_network_gets_its_figure(name: str, point: Point) -> None:
    result = prior(name, point.macs, point.width, point.resolution)
    assert (result.top1, result.source) == (point.top1, "published")


@pytest.mark.parametrize(
    ("name", "figures"),
    [("mobilenet_v1", 16), ("mobilenet_v2", 22), ("mobilenet_v3_large", 10)],
)
def test_tables_are_complete_and_name_no_network_twice(name: str, figures: int) -> None:
    points = PUBLISHED[name]
    assert len({(point.width, point.resolution) for point in points}) == len(points) == figures


def test_between_two_figures_lies_a_line_over_log_macs() -> None:
    by_key = {(p.width, p.resolution): p for p in PUBLISHED["mobilenet_v2"]}
    low, high = by_key[1.3, 224], by_key[1.4, 224]
    middle = round((low.macs * high.macs) ** 0.5)
    result = prior("mobilenet_v2", middle, 1.35, 224)
    assert result.source == "interpolated"
    assert result.top1 == pytest.approx((low.top1 + high.top1) / 2, abs=1e-6)


@pytest.mark.parametrize("name", SEVERAL)
@given(macs=st.tuples(st.integers(1, 10**11), st.integers(1, 10**11)))
def test_more_macs_never_give_less(name: str, macs: tuple[int, int]) -> None:
    low, high = sorted(macs)
    assert prior(name, low, 9.0, 224).top1 <= prior(name, high, 9.0, 224).top1


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("macs", [1, 10**6, 10**8, 10**10, 10**18])
def test_prior_stays_a_fraction(name: str, macs: int) -> None:
    assert 0.001 <= prior(name, macs, 9.0, 224).top1 <= 0.999


@pytest.mark.parametrize("name", SEVERAL)
def test_outside_the_figures_the_nearest_line_goes_on(name: str) -> None:
    points = PUBLISHED[name]
    low, high = min(p.macs for p in points), max(p.macs for p in points)
    assert prior(name, low, 9.0, 224).source == "interpolated"
    assert prior(name, high, 9.0, 224).source == "interpolated"
    steps = [prior(name, round(high * 1.05**i), 9.0, 224) for i in (1, 2, 3)]
    assert {step.source for step in steps} == {"extrapolated"}
    assert steps[2].top1 - steps[1].top1 == pytest.approx(steps[1].top1 - steps[0].top1, abs=1e-6)
    assert prior(name, low // 2, 9.0, 224).source == "extrapolated"
    assert prior(name, low // 2, 9.0, 224).top1 < prior(name, low, 9.0, 224).top1


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("macs", [10**7, 5 * 10**7, 3 * 10**8])
def test_minimalistic_network_follows_its_sibling(size: str, macs: int) -> None:
    sibling, name = f"mobilenet_v3_{size}", f"mobilenet_v3_{size}_minimalistic"
    own = PUBLISHED[name][0]
    result = prior(name, macs, 0.5, 160)
    moved = prior(sibling, macs, 9.0, 224).top1 - prior(sibling, own.macs, 9.0, 224).top1
    assert result.source == "extrapolated"
    assert result.top1 == pytest.approx(own.top1 + moved)


def test_prior_refuses_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"model='mobilenet_v4' is unknown; .* Did you mean"):
        prior("mobilenet_v4", 10**8, 1.0, 224)


def test_prior_refuses_a_count_that_is_none() -> None:
    with pytest.raises(ConfigError, match="macs=0 is not allowed; expected a count above 0"):
        prior("mobilenet_v2", 0, 1.0, 200)
