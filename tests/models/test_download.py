"""Downloads, from a server in this process."""

import hashlib
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError
from pocketvision.models import pretrained, weights
from pocketvision.models.arch import Network
from pocketvision.models.create import create_model
from pocketvision.models.download import cached_path, check_hash, fetch, hash_prefix
from pocketvision.models.imagenet import imagenet_classes
from pocketvision.models.pretrained import PLACES, find

CUT = {  # answers that are less than they promise
    "/cut.pth": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"PK" * 100,
    "/chunks.pth": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nPKPK",
    "/noise.pth": b"noise\r\n\r\n",
    "/unsaid.pth": b"HTTP/1.1 200 OK\r\n\r\nPK\x03\x04 and no more",
}


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing, and breaks off where `CUT` says so."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if answer := CUT.get(self.path):
            self.wfile.write(answer)
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
    (folder / "net-0000000a.pth").write_bytes(b"PK something else")
    url = f"{address}/net-0000000a.pth"
    with pytest.raises(
        ArtefactError,
        match=rf"^{re.escape(url)} was downloaded but not kept: net-0000000a\.pth is damaged, cut "
        r"off perhaps: its SHA-256 begins with \w{8}, expected 0000000a\.",
    ):
        fetch(url)
    assert left_behind(tmp_path) == []


def test_download_that_breaks_off_is_not_kept(tmp_path: Path, served: tuple[Path, str]) -> None:
    place = re.escape(str(tmp_path / "cache" / "weights"))
    for name, bytes_read in [("cut", "200 of 1000"), ("chunks", r"\d+")]:
        with pytest.raises(
            ArtefactError,
            match=rf"/{name}\.pth broke off after {bytes_read} bytes; nothing was kept\. Try "
            rf"again, or fetch it elsewhere and put it at {place}/.+-{name}\.pth\.",
        ):
            fetch(f"{served[1]}/{name}.pth")
    assert left_behind(tmp_path) == []


def test_download_of_unknown_length_is_read_before_it_is_kept(
    tmp_path: Path, served: tuple[Path, str]
) -> None:
    url = f"{served[1]}/unsaid.pth"
    with pytest.raises(
        ArtefactError,
        match=rf"^{re.escape(url)} was downloaded but not kept: \w+-unsaid\.pth is a damaged",
    ):
        fetch(url)
    assert left_behind(tmp_path) == []


def test_server_that_speaks_no_http_is_said(tmp_path: Path, served: tuple[Path, str]) -> None:
    with pytest.raises(
        ArtefactError, match=r"noise\.pth cannot be downloaded \(BadStatusLine: nois"
    ):
        fetch(f"{served[1]}/noise.pth")
    assert left_behind(tmp_path) == []


def test_address_with_a_blank_is_refused(tmp_path: Path, served: tuple[Path, str]) -> None:
    with pytest.raises(
        ArtefactError, match=r"my net\.pth cannot be downloaded \(InvalidURL: URL can't contain"
    ):
        fetch(f"{served[1]}/my net.pth")


@pytest.mark.parametrize(
    ("url", "reason"), [("http://[bad", "Invalid IPv6 URL"), ("http://a.org/%00.pth", "null byte")]
)
def test_what_is_no_address_is_refused(url: str, reason: str) -> None:
    with pytest.raises(
        ArtefactError,
        match=rf"^{re.escape(url)} is not an address \({reason}\); expected one such as https://",
    ):
        fetch(url)


def test_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        ArtefactError,
        match=r"The cache '.*file/cache/weights' cannot be written \(Not a directory\); make room, "
        r"or let \$POCKETVISION_CACHE name another folder\.",
    ):
        fetch(f"{served[1]}/w.pth")


def test_error_of_the_progress_display_is_not_taken_for_the_network_s(
    tmp_path: Path, served: tuple[Path, str]
) -> None:
    def broken(done: int, total: int) -> None:
        raise ValueError("broken display")

    folder, address = served
    with pytest.raises(ValueError, match=r"^broken display$"):
        fetch(f"{address}/{hashed(folder, b'PK whole')}", broken)
    assert left_behind(tmp_path) == []


def test_without_a_network_the_address_and_the_place_are_said(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/net-1234567a.pth"
    place = tmp_path / "cache" / "weights" / "net-1234567a.pth"
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


def test_file_damaged_in_the_cache_is_fetched_again(served: tuple[Path, str]) -> None:
    folder, address = served
    torch.save({"w": torch.ones(3)}, folder / "plain.pth")
    for name in (hashed(folder, b"PK whole"), "plain.pth"):
        path = fetch(f"{address}/{name}")
        whole = path.read_bytes()
        path.write_bytes(whole[:-3])
        assert fetch(f"{address}/{name}") == path
        assert path.read_bytes() == whole


def test_file_damaged_in_the_cache_is_not_left_there_without_a_network(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/net-1234567a.pth"
    path = cached_path(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="cannot be downloaded"):
        fetch(url)
    assert left_behind(tmp_path) == []


def test_date_in_a_name_is_no_hash(served: tuple[Path, str]) -> None:
    folder, address = served
    assert hash_prefix("m-20240115.pth") == ""
    assert hash_prefix("semnasnet_075-18710866.pth") == "18710866"  # published under that name
    torch.save({"w": torch.ones(3)}, folder / "m-20240115.pth")
    path = fetch(f"{address}/m-20240115.pth")
    assert path.name.endswith("-m-20240115.pth")
    check_hash(path)


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
    with pytest.warns(UserWarning, match="resized bicubic"):
        assert is_same(create_model("mobilenet_v3_small", weights="timm"), source)


def is_same(one: Network, two: Network) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(found, expected) for found, expected in pairs)
