"""Published weights: the table, and downloads from a server in this process."""

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from pocketvision.data.preprocessing import IMAGENET_MEAN, Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models import pretrained, registry, weights
from pocketvision.models.arch import Network
from pocketvision.models.create import create_model
from pocketvision.models.download import cached_path, fetch, hash_prefix
from pocketvision.models.imagenet import imagenet_classes
from pocketvision.models.pretrained import PLACES, PRETRAINED, find, is_published, published


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing, and promises more of a file called cut.pth than it sends."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("cut.pth"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"PK" * 100)
            return
        super().do_GET()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which its files are."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "cache"))


def hashed(folder: Path, content: bytes) -> str:
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    return name


def left_behind(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]


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


def test_download_lands_in_the_cache_verified(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    content = bytes(3_000_000)
    name = hashed(folder, content)
    told: list[tuple[int, int]] = []
    path = fetch(f"{address}/{name}", lambda done, total: told.append((done, total)))
    assert path == tmp_path / "cache" / "weights" / name
    assert path.read_bytes() == content
    assert told[-1] == (3_000_000, 3_000_000)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    (folder / name).unlink()
    assert fetch(f"{address}/{name}") == path  # from the cache
    assert left_behind(tmp_path) == [name]


def test_other_content_than_the_name_says_is_not_kept(
    tmp_path: Path, served: tuple[Path, str]
) -> None:
    folder, address = served
    (folder / "net-00000000.pth").write_bytes(b"PK something else")
    with pytest.raises(ArtefactError, match=r"SHA-256 begins with .*, expected 00000000"):
        fetch(f"{address}/net-00000000.pth")
    assert left_behind(tmp_path) == []


def test_download_that_breaks_off_is_not_kept(tmp_path: Path, served: tuple[Path, str]) -> None:
    with pytest.raises(ArtefactError, match=r"cut\.pth (broke off after 200 of 1000 bytes|cannot)"):
        fetch(f"{served[1]}/cut.pth")
    assert left_behind(tmp_path) == []


def test_without_a_network_the_address_and_the_place_are_said(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/net-12345678.pth"
    place = tmp_path / "cache" / "weights" / "net-12345678.pth"
    with pytest.raises(
        ArtefactError,
        match=rf"{re.escape(url)} cannot be downloaded \(.+\)\. Without a network, fetch it "
        rf"elsewhere and put it at {re.escape(str(place))}\.",
    ):
        fetch(url)
    assert left_behind(tmp_path) == []


def test_web_page_in_place_of_weights_is_not_kept(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "w.pth").write_text("\n<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(ArtefactError, match=r"w\.pth leads to a web page, not to weights"):
        fetch(f"{address}/w.pth")
    assert left_behind(tmp_path) == []


def test_missing_file_on_the_server_says_so(served: tuple[Path, str]) -> None:
    with pytest.raises(ArtefactError, match=r"absent\.pth cannot be downloaded \(HTTP Error 404"):
        fetch(f"{served[1]}/absent.pth")


def test_file_damaged_in_the_cache_is_noticed(served: tuple[Path, str]) -> None:
    folder, address = served
    path = fetch(f"{address}/{hashed(folder, b'PK whole')}")
    path.write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="is damaged, cut off perhaps: its SHA-256 begins with"):
        fetch(f"{address}/{path.name}")


def test_files_of_one_name_from_two_addresses_do_not_meet() -> None:
    one, two = cached_path("https://a.org/model.pth"), cached_path("https://b.org/model.pth?x=1")
    assert one != two
    assert one.name.endswith("-model.pth")
    assert not hash_prefix(one.name)


def test_weights_come_from_an_address(served: tuple[Path, str]) -> None:
    folder, address = served
    source = create_model("mobilenet_v3_small", width=0.35, num_classes=3, seed=1)
    torch.save(source.state_dict(), folder / "small.pth")
    network = create_model("mobilenet_v3_small", width=0.35, weights=f"{address}/small.pth")
    assert network.spec == source.spec
    pairs = zip(network.state_dict().values(), source.state_dict().values(), strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)


@torch.no_grad()
def test_published_weights_bring_preprocessing_classes_and_notes(
    served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    source = create_model("mobilenet_v3_small", seed=1)
    torch.save(source.state_dict(), folder / "w.pth")
    name = hashed(folder, (folder / "w.pth").read_bytes())
    row = find("mobilenet_v3_small", 1.0, "timm")._replace(file=name, side=240)
    monkeypatch.setattr(pretrained, "PRETRAINED", (row,))
    monkeypatch.setitem(PLACES, row.place, address)
    network = create_model("mobilenet_v3_small")
    report = weights.load_weights(network, "timm")
    assert report.preprocessing == Preprocessing(resolution=224, side=240)
    assert report.classes == imagenet_classes()
    assert report.notes == (
        "They were evaluated on images resized bicubic; here images are resized bilinearly.",
    )
    assert is_same(network, source)
    assert is_same(create_model("mobilenet_v3_small", weights="timm"), source)


def is_same(one: Network, two: Network) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(found, expected) for found, expected in pairs)
