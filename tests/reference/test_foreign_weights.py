"""Weights of torchvision and timm, under their names: the same logits here."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from pocketvision.models import pretrained
from pocketvision.models.create import create_model
from pocketvision.models.foreign import adapted, norm_of, style_for
from pocketvision.models.imagenet import imagenet_classes
from pocketvision.models.registry import ALIASES, resolve, spec

pytestmark = pytest.mark.reference

TORCHVISION = [
    ("mobilenet_v2", {}),
    ("mobilenet_v2", {"width_mult": 0.5}),
    ("mobilenet_v2", {"width_mult": 1.4}),
    ("mobilenet_v3_large", {}),
    ("mobilenet_v3_large", {"width_mult": 0.75}),
    ("mobilenet_v3_small", {}),
    ("mobilenet_v3_small", {"width_mult": 0.35}),
    ("shufflenet_v2_x0_5", {}),
    ("shufflenet_v2_x1_0", {}),
    ("shufflenet_v2_x1_5", {}),
    ("shufflenet_v2_x2_0", {}),
    ("resnet18", {}),
    ("resnet34", {}),
    ("resnet50", {}),
    ("resnet101", {}),
]
TIMM = [
    "mobilenetv1_100",
    "mobilenetv2_035",
    "mobilenetv2_050",
    "mobilenetv2_100",
    "mobilenetv2_140",
    "mobilenetv3_large_075",
    "mobilenetv3_large_100",
    "mobilenetv3_small_050",
    "mobilenetv3_small_075",
    "mobilenetv3_small_100",
    "semnasnet_075",
    "semnasnet_100",
    "resnet18",
    "resnet50",
    "seresnet50",
]


@pytest.mark.parametrize(("name", "options"), TORCHVISION, ids=lambda value: str(value))
def test_torchvision_s_weights_give_its_logits(
    torchvision: Any, tmp_path: Path, name: str, options: dict[str, float]
) -> None:
    theirs = varied(lambda: getattr(torchvision.models, name)(**options))
    check(theirs, name, options.get("width_mult"), tmp_path / "w.pth")


@pytest.mark.parametrize("name", TIMM)
def test_timm_s_weights_give_its_logits(timm: Any, tmp_path: Path, name: str) -> None:
    theirs = varied(lambda: timm.create_model(name, pretrained=False))
    check(theirs, name, None, tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore:These weights were trained with padding:UserWarning")
@pytest.mark.parametrize("name", ["large", "small"])
def test_ported_weights_give_timm_s_logits_with_padding_at_both_sides(
    timm: Any, tmp_path: Path, name: str
) -> None:
    theirs = varied(lambda: timm.create_model(f"tf_mobilenetv3_{name}_minimal_100", pad_type=""))
    check(theirs, f"mobilenet_v3_{name}_minimalistic", None, tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_constants_of_the_norms_are_torchvision_s(torchvision: Any, name: str) -> None:
    theirs = first_norm(getattr(torchvision.models, name)())
    ours = norm_of(adapted(spec(name), style_for("torchvision", name)))
    assert ours is not None
    assert (ours.eps, ours.momentum) == (theirs.eps, theirs.momentum)


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_constants_of_the_norms_are_timm_s(timm: Any, name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"timm has no {name}")
    theirs = first_norm(timm.create_model(name, pretrained=False))
    ours = norm_of(adapted(spec(name), style_for("timm", resolve(name)[0])))
    assert ours is not None
    assert (ours.eps, ours.momentum) == (theirs.eps, theirs.momentum)


def test_table_is_torchvision_s(torchvision: Any) -> None:
    for row in pretrained.TORCHVISION:
        entry = torchvision.models.get_model_weights(row.model)[row.tag]
        transforms = entry.transforms()
        assert row.url == entry.url
        assert row.top1 == entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert ([row.resolution], [row.side]) == (transforms.crop_size, transforms.resize_size)
        assert row.interpolation == transforms.interpolation.value
        assert list(row.mean) == pytest.approx([255 * value for value in transforms.mean])
        assert list(row.std) == pytest.approx([255 * value for value in transforms.std])
        assert tuple(entry.meta["categories"]) == imagenet_classes()


def test_first_row_of_a_network_is_torchvision_s_default(torchvision: Any) -> None:
    for row in pretrained.published("torchvision"):
        assert torchvision.models.get_model_weights(row.model).DEFAULT.name == row.tag


def test_table_is_timm_s(timm: Any) -> None:
    for row in pretrained.TIMM:
        entry = timm.get_pretrained_cfg(f"{row.model}.{row.tag}")
        assert row.url == entry.url
        assert row.resolution == entry.input_size[1]
        assert row.side == int(row.resolution / entry.crop_pct)
        assert row.interpolation == entry.interpolation
        assert list(row.mean) == pytest.approx([255 * value for value in entry.mean])
        assert list(row.std) == pytest.approx([255 * value for value in entry.std])
        assert row.licence.lower() == entry.license
        assert entry.num_classes == 1000


def test_timm_s_default_comes_first_where_it_is_listed(timm: Any) -> None:
    for row in pretrained.published("timm"):
        default = timm.get_pretrained_cfg(row.model).tag
        listed = {other.tag for other in pretrained.TIMM if other.model == row.model}
        assert row.tag == default or default not in listed


@torch.inference_mode()
def test_official_mobilenet_v2_answers_as_in_torchvision(torchvision: Any) -> None:
    folder = Path(os.environ.get("POCKETVISION_TEST_DATA", ""))
    path, photos = folder / "weights/mobilenet_v2-b0353104.pth", folder / "data/imagenet_smoke_500"
    if not path.is_file():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with the official weights")
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    theirs.eval()
    ours = create_model("mobilenet_v2", weights=path).eval()
    transforms = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    rows = list(csv.DictReader((photos / "labels.csv").read_text().splitlines()))
    right = 0
    for row in rows:
        x = transforms(Image.open(photos / row["file"]).convert("RGB"))[None]
        answer = int(ours(x).argmax())
        assert answer == int(theirs(x).argmax()), row["file"]
        right += answer == int(row["index"])
    assert (right, len(rows)) == (406, 500)


def varied(build: Callable[[], nn.Module]) -> nn.Module:
    """Seeded weights, and batch norms whose scales and statistics would show a mistake."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                nn.init.uniform_(norm.weight, 0.8, 1.2)
                nn.init.uniform_(norm.bias, -0.3, 0.3)
                nn.init.uniform_(norm.running_mean, -0.3, 0.3)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
        return module.eval()


@torch.no_grad()
def check(theirs: nn.Module, name: str, width: float | None, path: Path) -> None:
    """A file of their state dict, loaded by name here, gives their logits.

    Two seeded images of their own scale: logits are compared relative to their largest.
    """
    torch.save(theirs.state_dict(), path)
    ours = create_model(name, width=width, weights=path).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = theirs(x)
    scale = expected.abs().max()
    assert expected.std() > 1e-3 * scale  # not all the same by accident
    torch.testing.assert_close(ours(x) / scale, expected / scale, rtol=1e-4, atol=1e-5)


def first_norm(module: nn.Module) -> nn.BatchNorm2d:
    return next(norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d))
