"""Published weights: the table, and the names that lead to its rows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pocketvision.data.preprocessing import IMAGENET_MEAN, Preprocessing
from pocketvision.errors import ConfigError
from pocketvision.models import pretrained, registry
from pocketvision.models.download import hash_prefix
from pocketvision.models.imagenet import imagenet_classes
from pocketvision.models.pretrained import (
    PLACES,
    PRETRAINED,
    find,
    is_published,
    not_there,
    published,
)


def test_published_figures_are_torchvision_s() -> None:
    rows = {(row.model, row.tag): row for row in pretrained.TORCHVISION}
    first, second = rows["mobilenet_v2", "IMAGENET1K_V1"], rows["mobilenet_v2", "IMAGENET1K_V2"]
    assert (first.top1, first.side, first.sha256) == (71.878, 256, "b0353104")
    assert (second.top1, second.side, second.sha256) == (72.154, 232, "7ebf99e0")
    assert rows["mobilenet_v3_large", "IMAGENET1K_V2"].top1 == 75.274
    assert rows["mobilenet_v3_small", "IMAGENET1K_V1"].top1 == 67.668
    assert rows["shufflenet_v2_x2_0", "IMAGENET1K_V1"].top1 == 76.23


def test_table_is_read_without_torch() -> None:
    code = "import sys, pocketvision.models.pretrained; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_are_complete_and_differ() -> None:
    for row in PRETRAINED:
        name, width = row.network
        assert name in registry.MODELS
        assert 0.1 <= width <= 2
        assert row.url.startswith("https://")
        assert row.sha256 == hash_prefix(row.file)
        assert re.fullmatch("[0-9a-f]{8,}", row.sha256)
        assert row.preprocessing.resolution == 224 <= row.side
        assert row.interpolation in ("bilinear", "bicubic")
        assert row.licence in ("BSD-3-Clause", "Apache-2.0")
        assert pretrained.by_file(row.file) is row
    assert len({(row.library, row.model, row.tag) for row in PRETRAINED}) == len(PRETRAINED)
    assert {row.place for row in PRETRAINED} == set(PLACES)


@pytest.mark.parametrize(
    ("model", "width", "asked", "file"),
    [
        ("mobilenet_v2", 1.0, "torchvision", "mobilenet_v2-7ebf99e0.pth"),
        ("mobilenet_v2", 1.0, "torchvision:IMAGENET1K_V1", "mobilenet_v2-b0353104.pth"),
        ("mobilenet_v2", 1.0, "IMAGENET1K_V1", "mobilenet_v2-b0353104.pth"),
        ("mobilenet_v2", 1.4, "timm", "mobilenetv2_140_ra-21a4e913.pth"),
        ("mobilenet_v3_large", 1.0, "ra_in1k", "mobilenetv3_large_100_ra-f55367f5.pth"),
        ("mobilenetv3_large_100.ra_in1k", 1.0, "timm", "mobilenetv3_large_100_ra-f55367f5.pth"),
        (
            "mobilenetv3_large_100.miil_in21k_ft_in1k",
            1.0,
            "timm",
            "mobilenetv3_large_100_1k_miil_78_0-66471c13.pth",
        ),
        ("mnasnet_a1", 1.0, "semnasnet_100.rmsp_in1k", "mnasnet_a1-d9418771.pth"),
        ("se_resnet50", 1.0, "timm", "seresnet50_a1_0-ffa00869.pth"),
    ],
)
def test_name_leads_to_the_file(model: str, width: float, asked: str, file: str) -> None:
    assert is_published(asked)
    assert find(model, width, asked).file == file


@pytest.mark.parametrize("path", ["w.pth", "runs/timm", "./torchvision", "network.safetensors"])
def test_paths_are_no_published_names(path: str) -> None:
    assert not is_published(path)


def test_what_is_not_published_is_listed() -> None:
    with pytest.raises(
        ConfigError,
        match=r"weights='timm:ra_in2k' are not published for mobilenet_v2 x1; expected one of "
        r"\['torchvision:IMAGENET1K_V2', .*'timm:ra_in1k'\]\. Did you mean 'ra_in1k'",
    ):
        find("mobilenet_v2", 1.0, "timm:ra_in2k")
    with pytest.raises(ConfigError, match=r"mobilenet_v2 x0\.35; expected a file of weights: none"):
        find("mobilenet_v2", 0.35, "torchvision")


def test_published_gives_one_file_a_network() -> None:
    rows = published("torchvision")
    assert len({row.network for row in rows}) == len(rows) == 12
    assert {row.tag for row in published("IMAGENET1K_V2")} == {"IMAGENET1K_V2"}


def test_pixels_of_timm_s_unusual_weights_are_only_scaled() -> None:
    row = find("mobilenet_v3_large", 1.0, "miil_in21k_ft_in1k")
    expected = Preprocessing(resolution=224, side=256, mean=(0, 0, 0), std=(255, 255, 255))
    assert row.preprocessing == expected
    assert find("mobilenet_v3_large", 1.0, "timm").mean == IMAGENET_MEAN


def test_classes_are_imagenet_s() -> None:
    names = imagenet_classes()
    assert len(set(names)) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("torchvisionn", r"does not exist; .*\. Did you mean 'torchvision'\?$"),
        ("IMAGENET1K_V3", r"does not exist; .*\. Did you mean 'IMAGENET1K_V\d'\?$"),
        ("timmm:ra_in1k", r"does not exist; .*\. Did you mean 'timm:ra_in1k'\?$"),
        (
            "mobilenetv3_large_100.ra_in2k",
            r"does .* Did you mean 'mobilenetv3_large_100\.ra_in1k'\?$",
        ),
        (
            "nowhere.pth",
            r"does not exist; give a \.safetensors or \.pth file, a folder that .*\)\.$",
        ),
        ("", r"is empty; give a \.safetensors"),
        (".", r"is a folder without network\.safetensors; give a"),
    ],
)
def test_weights_that_are_not_there_lead_to_published_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^weights='{re.escape(weights)}' {words}"):
        raise not_there(weights)


def test_what_to_give_instead_is_said_whole() -> None:
    assert str(not_there(Path("w.pth"))) == (
        "weights='w.pth' does not exist; give a .safetensors or .pth file, a folder that holds "
        "network.safetensors, an address (https://...), or the name of published weights: "
        "'torchvision' or 'timm', alone or with a tag ('torchvision:IMAGENET1K_V2')."
    )


def test_tag_that_no_file_has_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError,
        match=r"weights='torchvision:FOO' are not published; expected one of "
        r"\['torchvision:IMAGENET1K_V2', 'torchvision:IMAGENET1K_V1'\]\.",
    ):
        published("torchvision:FOO")
    with pytest.raises(ConfigError, match=r"Did you mean 'timm:ra_in1k'\?"):
        published("timm:ra_in1")
    with pytest.raises(ConfigError, match=r"'torchvision:FOO' are not published for mobilenet_v2"):
        find("mobilenet_v2", 1.0, "torchvision:FOO")
