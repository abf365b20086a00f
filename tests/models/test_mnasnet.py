import pytest

from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.mnasnet import mnasnet_a1
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec


def bottlenecks(width: float = 1.0) -> list[InvertedResidualSpec]:
    blocks = mnasnet_a1(width=width).blocks
    return [block for block in blocks if isinstance(block, InvertedResidualSpec)]


def test_mnasnet_a1_has_published_parameters_and_macs() -> None:
    result = count(mnasnet_a1())
    assert result.parameters == 3_887_038  # 3.9M in the paper
    assert round(result.macs / 1e6, 1) == 311.6
    assert round(result.macs / 1e6) == 312  # in the paper


def test_mnasnet_a1_has_the_blocks_of_figure_7() -> None:
    found = [
        (block.kernel, block.c_mid // block.c_in, block.attention is not None, block.c_out)
        for block in bottlenecks()
    ]
    assert found == [
        (3, 1, False, 16),
        *[(3, 6, False, 24)] * 2,
        *[(5, 3, True, 40)] * 3,
        *[(3, 6, False, 80)] * 4,
        *[(3, 6, True, 112)] * 2,
        *[(5, 6, True, 160)] * 3,
        (3, 6, False, 320),
    ]
    assert [block.stride for block in bottlenecks()] == [1, 2, 1, 2, 1, 1, 2, *[1] * 5, 2, 1, 1, 1]
    assert {block.act for block in bottlenecks()} == {"relu"}


def test_first_block_is_a_separable_convolution_without_residual() -> None:
    first, *rest = bottlenecks()
    assert first.expand is None
    assert not first.has_skip
    assert sum(block.has_skip for block in rest) == 9


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_attention_squeezes_to_a_quarter_of_the_input(width: float) -> None:
    for block in bottlenecks(width):
        if block.attention:
            assert block.c_in % 4 == 0
            assert block.attention == SqueezeExciteSpec(squeezed=block.c_in // 4, gate="sigmoid")


@pytest.mark.parametrize("width", [0.35, 0.75, 1.4])
def test_last_convolution_does_not_scale(width: float) -> None:
    spec = mnasnet_a1(width=width)
    assert spec.blocks[-1].c_out == spec.head.c_in == 1280


def test_features_have_the_channels_of_figure_7() -> None:
    assert mnasnet_a1().feature_channels == {2: 16, 4: 24, 8: 40, 16: 112, 32: 1280}


def test_timm_s_name_leads_to_it() -> None:
    assert registry.spec("semnasnet_075.rmsp_in1k") == mnasnet_a1(width=0.75)
    assert registry.MODELS["mnasnet_a1"].planned
