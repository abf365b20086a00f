import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.editing import with_attention
from pocketvision.models.shufflenet_v1 import GROUPS, SHUFFLENET_TABLE_1, shufflenet_v1
from pocketvision.nn.shuffle import ShuffleV1Spec
from pocketvision.runtimes.export import at_resolution, export_onnx
from pocketvision.runtimes.onnxfile import write_model
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Calibration, FileCard


def units(groups: int = 3, **options: Any) -> list[ShuffleV1Spec]:
    blocks = shufflenet_v1(groups=groups, **options).blocks
    return [block for block in blocks if isinstance(block, ShuffleV1Spec)]


@pytest.mark.parametrize(
    ("groups", "width", "parameters", "million_macs"),
    [
        (1, 1.0, 1_531_936, 143.1),
        (2, 1.0, 1_733_848, 140.8),
        (3, 1.0, 1_865_728, 137.5),
        (4, 1.0, 1_968_344, 134.3),
        (8, 1.0, 2_434_768, 138.4),
        (3, 0.5, 718_324, 37.6),
        (3, 1.5, 3_442_168, 292.4),
        (3, 2.0, 5_450_776, 524.0),
        (8, 0.5, 1_011_448, 40.5),
        (8, 2.0, 6_522_232, 521.9),
    ],
)
def test_shufflenet_v1_has_exact_parameters_and_macs(
    groups: int, width: float, parameters: int, million_macs: float
) -> None:
    result = count(shufflenet_v1(groups=groups, width=width))
    assert result.parameters == parameters
    assert round(result.macs / 1e6, 1) == million_macs


@pytest.mark.parametrize(
    ("groups", "width", "published"),
    [
        (1, 1.0, 143),
        (3, 1.0, 137),
        (1, 0.25, 13),
        (3, 0.25, 13),
        (3, 0.5, 38),
        (4, 0.5, 38),
        (3, 1.5, 292),
        (3, 2.0, 524),
    ],
)
def test_shufflenet_v1_has_the_complexity_of_the_paper(
    groups: int, width: float, published: int
) -> None:
    assert round(count(shufflenet_v1(groups=groups, width=width)).macs / 1e6) == published


def test_squeeze_and_excitation_costs_what_table_3_of_its_paper_says() -> None:
    """1.8 -> 2.4 million parameters there; both are cut, not rounded, behind the first decimal."""
    plain, excited = shufflenet_v1(), with_attention(shufflenet_v1(), "se")
    assert count(excited).parameters == 2_476_144
    found = [math.floor(count(spec).parameters / 1e5) / 10 for spec in (plain, excited)]
    assert found == [1.8, 2.4]


def test_squeeze_and_excitation_at_2x_costs_what_table_5_says() -> None:
    """524 -> 527 million there; which hidden width that is for, the paper does not say."""
    macs = count(with_attention(shufflenet_v1(width=2.0), "se")).macs
    assert macs == 526_487_712
    assert abs(macs / 1e6 - 527) < 1


@pytest.mark.parametrize("groups", GROUPS)
def test_stages_have_the_widths_of_table_1(groups: int) -> None:
    found = [unit.c_out for unit in units(groups) if unit.stride == 2]
    assert found == [row.channels(groups) for row in SHUFFLENET_TABLE_1]
    assert found == [found[0], 2 * found[0], 4 * found[0]]
    assert [unit.stride for unit in units(groups)] == [2, *[1] * 3, 2, *[1] * 7, 2, *[1] * 3]


def test_only_the_first_convolution_of_stage_2_is_whole() -> None:
    assert [unit.first_grouped for unit in units()] == [False] + [True] * 15


@pytest.mark.parametrize(
    ("groups", "width", "stem"),
    [
        (3, 0.1, 12),
        (3, 0.25, 12),
        (3, 0.5, 12),
        (3, 0.75, 12),
        (3, 1.0, 24),
        (3, 1.5, 24),
        (3, 2.0, 48),
        (3, 4.0, 96),
        (8, 0.5, 16),
        (8, 1.5, 24),
    ],
)
def test_stem_scales_by_powers_of_2(groups: int, width: float, stem: int) -> None:
    assert shufflenet_v1(groups=groups, width=width).blocks[0].c_out == stem


@pytest.mark.parametrize(
    ("groups", "width", "widths"),
    [
        (2, 0.5, [104, 200, 400]),
        (4, 0.5, [144, 272, 544]),
        (2, 0.56, [112, 224, 448]),
        (8, 0.1, [64, 96, 160]),
    ],
)
def test_widths_that_do_not_divide_are_rounded_up(
    groups: int, width: float, widths: list[int]
) -> None:
    assert [u.c_out for u in units(groups, width=width) if u.stride == 2] == widths
    assert all(unit.c_mid % groups == 0 for unit in units(groups, width=width))


def test_network_without_shuffle_costs_the_same() -> None:
    plain, cut = shufflenet_v1(), shufflenet_v1(shuffle=False)
    assert count(cut) == count(plain)
    assert cut.label == "shufflenet_v1_g3 (no shuffle) x1 @224"
    assert not any(unit.shuffle for unit in units(shuffle=False))
    torch.nn.Module.load_state_dict(cut.build(seed=0), plain.build(seed=0).state_dict())


def test_features_have_the_channels_of_table_1() -> None:
    assert shufflenet_v1().feature_channels == {2: 24, 4: 24, 8: 240, 16: 480, 32: 960}


def test_only_three_groups_are_planned_unasked() -> None:
    names = registry.list_models("shufflenet_v1_*")
    assert names == [f"shufflenet_v1_g{groups}" for groups in GROUPS]
    assert [name for name in names if registry.MODELS[name].planned] == ["shufflenet_v1_g3"]
    assert registry.resolve("shufflenet_v1") == ("shufflenet_v1_g3", {})


@pytest.mark.parametrize("groups", [0, 5, 6])
def test_groups_without_a_column_are_refused(groups: int) -> None:
    message = rf"groups={groups} has no widths in Table 1 .*; expected one of \(1, 2, 3, 4, 8\)"
    with pytest.raises(ConfigError, match=message):
        shufflenet_v1(groups=groups)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["shufflenet_v1_g3", "shufflenet_v1_g8", "shufflenet_v2_x0_5", "mnasnet_a1"]
)
def test_exported_file_runs_at_another_resolution_and_in_integers(
    name: str, tmp_path: Path
) -> None:
    network = registry.spec(name, resolution=64, num_classes=5).build(seed=0).eval()
    card = FileCard(
        name=name, classes=tuple("abcde"), preprocessing=Preprocessing.for_resolution(64)
    )
    runtime, float_file, int8_file = get_runtime("onnxruntime"), tmp_path / "f", tmp_path / "i"
    export_onnx(network, float_file, card)
    moved = tmp_path / "moved"
    write_model(at_resolution(float_file, 96), moved)
    for path, side in [(float_file, 64), (moved, 96)]:
        pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
        images = normalise(torch.from_numpy(pixels), Preprocessing.for_resolution(side))
        found = torch.from_numpy(runtime.session(path, "f32", 1).run(pixels))
        torch.testing.assert_close(found, network(images), rtol=1e-4, atol=1e-4)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    runtime.quantize(float_file, int8_file, Calibration(pixels=pixels))
    logits = runtime.session(int8_file, "int8", 1).run(pixels)
    assert logits.shape == (8, 5)
    assert np.isfinite(logits).all()
