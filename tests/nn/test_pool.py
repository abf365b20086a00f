import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.nn.pool import Pooling, PoolSpec


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 2)])
def test_pool_gives_the_stated_size(
    pooling: Pooling, kernel: int, stride: int, size: tuple[int, int]
) -> None:
    spec = PoolSpec(c_in=3, pooling=pooling, kernel=kernel, stride=stride)
    assert spec.build()(torch.zeros(1, 3, *size)).shape[2:] == spec.out_size(size)
    assert spec.c_out == 3
    assert spec.layers(size) == ()


def test_mean_of_ones_is_one_at_the_border_too() -> None:
    pooled = PoolSpec(c_in=1, pooling="mean", stride=1).build()(torch.ones(1, 1, 4, 4))
    assert torch.equal(pooled, torch.ones(1, 1, 4, 4))


def test_maximum_of_negatives_is_negative_at_the_border_too() -> None:
    pooled = PoolSpec(c_in=1).build()(-torch.ones(1, 1, 4, 4))
    assert torch.equal(pooled, -torch.ones(1, 1, 2, 2))


def test_pool_refuses_what_is_not_allowed() -> None:
    with pytest.raises(ConfigError, match="pooling='sum' is unknown; expected one of"):
        PoolSpec(c_in=1, pooling="sum")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="c_in=0 is not allowed"):
        PoolSpec(c_in=0)
    with pytest.raises(ConfigError, match="kernel=2 is even"):
        PoolSpec(c_in=1, kernel=2)
    with pytest.raises(ConfigError, match="stride=3 is not allowed; expected 1 or 2"):
        PoolSpec(c_in=1, stride=3)
