import pytest

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.editing import with_attention
from pocketvision.models.shufflenet_v2 import SHUFFLENET_V2_TABLE_5, shufflenet_v2
from pocketvision.nn.shuffle import ShuffleV2Spec

NAMES = {
    0.5: "shufflenet_v2_x0_5",
    1.0: "shufflenet_v2_x1_0",
    1.5: "shufflenet_v2_x1_5",
    2.0: "shufflenet_v2_x2_0",
}


@pytest.mark.parametrize(
    ("complexity", "parameters", "million_macs"),
    [
        (0.5, 1_366_792, 40.5),
        (1.0, 2_278_604, 144.9),
        (1.5, 3_503_624, 295.8),
        (2.0, 7_393_996, 583.3),
    ],
)
def test_shufflenet_v2_has_exact_parameters_and_macs(
    complexity: float, parameters: int, million_macs: float
) -> None:
    result = count(shufflenet_v2(complexity=complexity))
    assert result.parameters == parameters
    assert round(result.macs / 1e6, 1) == million_macs


@pytest.mark.parametrize(
    ("complexity", "million_parameters", "million_macs"),
    [(0.5, 1.4, 41), (1.0, 2.3, 146), (1.5, 3.5, 299), (2.0, 7.4, 591)],
)
def test_shufflenet_v2_is_within_2_percent_of_the_paper(
    complexity: float, million_parameters: float, million_macs: int
) -> None:
    """The paper's count has more in it than convolutions and linear layers."""
    result = count(shufflenet_v2(complexity=complexity))
    assert round(result.parameters / 1e6, 1) == million_parameters
    assert 0.98 * million_macs < result.macs / 1e6 < million_macs


@pytest.mark.parametrize("complexity", SHUFFLENET_V2_TABLE_5)
def test_stages_have_the_widths_and_units_of_table_5(complexity: float) -> None:
    spec, column = shufflenet_v2(complexity=complexity), SHUFFLENET_V2_TABLE_5[complexity]
    units = [block for block in spec.blocks if isinstance(block, ShuffleV2Spec)]
    assert [unit.stride for unit in units] == [2, *[1] * 3, 2, *[1] * 7, 2, *[1] * 3]
    assert [unit.c_out for unit in units if unit.stride == 2] == list(column[:3])
    assert spec.feature_channels == {
        2: 24,
        4: 24,
        8: column.stage2,
        16: column.stage3,
        32: column.conv5,
    }


@pytest.mark.parametrize(("complexity", "name"), NAMES.items())
def test_each_complexity_has_a_name(complexity: float, name: str) -> None:
    assert registry.spec(name) == shufflenet_v2(complexity=complexity)
    assert shufflenet_v2(complexity=complexity).name == name


def test_name_without_complexity_means_1() -> None:
    assert registry.spec("shufflenet_v2") == shufflenet_v2()
    assert registry.list_models("shufflenet_v2*") == list(NAMES.values())


def test_every_unit_can_carry_attention() -> None:
    spec = with_attention(shufflenet_v2(), "se")
    units = [block for block in spec.blocks if isinstance(block, ShuffleV2Spec)]
    assert all(unit.attention for unit in units)
    extra = sum(2 * (unit.c_out // 2) * (unit.c_out // 32) for unit in units)
    assert count(spec).parameters == count(shufflenet_v2()).parameters + extra


@pytest.mark.parametrize("width", [0.5, 2.0, 0.0])
def test_another_width_is_refused_with_the_four_names(width: float) -> None:
    message = rf"width={width} is not allowed for shufflenet_v2_x1_0, .* expected 1, or another "
    with pytest.raises(ConfigError, match=message + f".*: {', '.join(NAMES.values())}"):
        shufflenet_v2(width=width)


def test_another_complexity_is_refused() -> None:
    message = r"complexity=0.7 is no column of Table 5; expected one of \[0.5, 1.0, 1.5, 2.0\]"
    with pytest.raises(ConfigError, match=message):
        shufflenet_v2(complexity=0.7)
