from __future__ import annotations

import ast
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pocketvision.data import pixels as pixels_module
from pocketvision.data.pixels import centre_crop, load_pixels

Pixels = npt.NDArray[np.uint8]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    planes = (y * 255 / height, x * 255 / width, (x + y) * 255 / (height + width))
    return np.stack(planes, axis=-1).astype(np.uint8)


def grey(value: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (4, 4), value)


def sixteen_bits(value: int, dtype: str = "<u2") -> Image.Image:
    return Image.fromarray(np.full((4, 4), value, dtype=dtype))


def palette(transparency: int | bytes | None = None) -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 10, 20, 30])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def with_transparency(image: Image.Image, value: object) -> Image.Image:
    image.info["transparency"] = value
    return image


MODES: list[tuple[str, Callable[[], Image.Image], tuple[int, int, int]]] = [
    ("RGB", lambda: Image.new("RGB", (4, 4), (1, 2, 3)), (1, 2, 3)),
    ("RGB transparent colour", lambda: with_transparency(
        Image.new("RGB", (4, 4), (1, 2, 3)), (1, 2, 3)), (255, 255, 255)),
    ("L", lambda: grey(77), (77, 77, 77)),
    ("L transparent value", lambda: with_transparency(grey(77), 77), (255, 255, 255)),
    ("L other transparent value", lambda: with_transparency(grey(77), 78), (77, 77, 77)),
    ("1 white", lambda: grey(1, "1"), (255, 255, 255)),
    ("1 black", lambda: grey(0, "1"), (0, 0, 0)),
    ("LA opaque", lambda: Image.new("LA", (4, 4), (100, 255)), (100, 100, 100)),
    ("LA clear", lambda: Image.new("LA", (4, 4), (100, 0)), (255, 255, 255)),
    ("RGBA clear", lambda: Image.new("RGBA", (4, 4), (0, 0, 0, 0)), (255, 255, 255)),
    ("RGBA half", lambda: Image.new("RGBA", (4, 4), (0, 255, 55, 51)), (204, 255, 215)),
    ("P", palette, (10, 20, 30)),
    ("P clear index", lambda: palette(1), (255, 255, 255)),
    ("P other clear index", lambda: palette(0), (10, 20, 30)),
    ("P alpha table", lambda: palette(bytes([255, 0])), (255, 255, 255)),
    ("PA", lambda: palette().convert("PA"), (10, 20, 30)),
    ("CMYK", lambda: Image.new("CMYK", (4, 4), (0, 255, 0, 0)), (255, 0, 255)),
    ("CMYK mixed", lambda: Image.new("CMYK", (4, 4), (100, 0, 0, 51)), (124, 204, 204)),
    ("CMYK black", lambda: Image.new("CMYK", (4, 4), (0, 0, 0, 255)), (0, 0, 0)),
    ("YCbCr", lambda: Image.new("YCbCr", (4, 4), (90, 128, 128)), (90, 90, 90)),
    ("I;16 full", lambda: sixteen_bits(65535), (255, 255, 255)),
    ("I;16 rounds down", lambda: sixteen_bits(257 * 9 + 128), (9, 9, 9)),
    ("I;16 rounds up", lambda: sixteen_bits(257 * 9 + 129), (10, 10, 10)),
    ("I;16B", lambda: sixteen_bits(257 * 9, ">u2"), (9, 9, 9)),
    ("I;16 transparent", lambda: with_transparency(sixteen_bits(500), 500), (255, 255, 255)),
    ("I", lambda: sixteen_bits(257 * 200, "<i4"), (200, 200, 200)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "colour"), [m[1:] for m in MODES], ids=[m[0] for m in MODES])
def test_every_mode_becomes_rgb(
    make: Callable[[], Image.Image], colour: tuple[int, int, int]
) -> None:
    result = load_pixels(make(), 2)
    assert result.shape == (2, 2, 3)
    assert result.dtype == np.uint8
    assert (result == np.array(colour)).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("F", (4, 4), 0.5), "floating-point pixels have no known range"),
        (sixteen_bits(65536, "<i4"), "grey values 65536..65536; expected 8 or 16 bits"),
        (sixteen_bits(-1, "<i4"), "grey values -1..-1"),
    ],
)
def test_values_without_a_meaning_are_refused(image: Image.Image, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_pixels(image, 2)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"), ("a.png", "RGBA"), ("a.png", "P"), ("a.png", "L"), ("a.png", "LA"),
        ("a.png", "1"), ("a.bmp", "RGB"), ("a.bmp", "P"), ("a.webp", "RGB"), ("a.gif", "P"),
        ("a.tiff", "RGB"), ("a.tiff", "CMYK"), ("a.jpg", "CMYK"), ("a.jpg", "RGB"), ("a.jpg", "L"),
    ],
)  # fmt: skip
def test_files_give_the_same_as_pillow(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / name
    Image.fromarray(smooth(12, 12)).convert(mode).save(path)
    with Image.open(path) as image:
        expected = np.array(image.convert("RGB"))
    assert (load_pixels(path, 12) == expected).all()
    assert (load_pixels(str(path), 12) == expected).all()
    with path.open("rb") as file:
        assert (load_pixels(file, 12) == expected).all()


def test_sixteen_bit_png_keeps_its_range(tmp_path: Path) -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    result = load_pixels(tmp_path / "a.png", 16)
    assert (result[..., 0].ravel() == np.arange(256)).all()


def test_adobe_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(tmp_path / "a.jpg")  # Pillow writes Adobe's form
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert (load_pixels(tmp_path / "a.jpg", 8) >= 254).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_turns_the_image_upright(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(smooth(40, 60)).save(path, exif=exif)
    plain = tmp_path / f"b.{suffix}"
    Image.fromarray(smooth(40, 60)).save(plain)
    with Image.open(plain) as image:
        image.load()
        image.getexif()[0x0112] = orientation
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert upright.size == ((40, 60) if orientation > 4 else (60, 40))
    assert (load_pixels(path, 20) == load_pixels(upright, 20)).all()


def test_broken_exif_counts_as_upright(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.fromarray(smooth(20, 20)).save(path, exif=b"Exif\0\0rubbish")
    Image.fromarray(smooth(20, 20)).save(plain)
    assert (load_pixels(path, 10) == load_pixels(plain, 10)).all()


def test_gif_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (load_pixels(tmp_path / "a.gif", 2) == (255, 0, 0)).all()


def test_large_jpeg_is_decoded_small_and_stays_close(tmp_path: Path) -> None:
    Image.fromarray(smooth(800, 1000)).save(tmp_path / "a.jpg", quality=95)
    fast = load_pixels(tmp_path / "a.jpg", 50).astype(int)
    exact = load_pixels(Image.fromarray(smooth(800, 1000)), 50).astype(int)
    assert np.abs(fast - exact).max() <= 4


def test_jpeg_draft_keeps_twice_the_side(tmp_path: Path) -> None:
    Image.fromarray(smooth(401, 401)).save(tmp_path / "a.jpg")
    with pixels_module.open_image(tmp_path / "a.jpg") as image:
        assert pixels_module.decode(image, 50).size == (101, 101)
    with pixels_module.open_image(tmp_path / "a.jpg") as image:
        assert pixels_module.decode(image, 51).size == (201, 201)


def test_same_size_is_copied_exactly_and_writable() -> None:
    original = noise(9, 9)
    result = load_pixels(Image.fromarray(original), 9)
    assert (result == original).all()
    assert result.flags.writeable
    assert result.flags.c_contiguous


@pytest.mark.parametrize(("height", "width"), [(9, 15), (15, 9)])
def test_centre_is_kept(height: int, width: int) -> None:
    original = noise(height, width)
    top, left = (height - 9) // 2, (width - 9) // 2
    result = load_pixels(Image.fromarray(original), 9)
    assert (result == original[top : top + 9, left : left + 9]).all()


def test_given_image_is_left_as_it_is() -> None:
    image = palette(1)
    load_pixels(image, 2)
    assert (image.mode, image.size, image.info["transparency"]) == ("P", (4, 4), 1)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_result_is_exactly_side_by_side(height: int, width: int, side: int) -> None:
    assert load_pixels(Image.fromarray(noise(height, width)), side).shape == (side, side, 3)


def test_extreme_shape_needs_little_memory() -> None:
    assert load_pixels(Image.new("RGB", (1, 60_000), "red"), 64).shape == (64, 64, 3)


BAD: dict[str, tuple[bytes, str]] = {
    "text": (b"hello, I am no image", "not an image of a known format"),
    "empty": (b"", "not an image of a known format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image of a known format"),
    "jpeg header": (b"\xff\xd8\xff\xe0", "."),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_images_are_refused(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_pixels(tmp_path / "a.jpg", 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "gif", "tiff"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(suffix: str, share: float) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(file, format={"jpg": "jpeg"}.get(suffix, suffix))
    content = file.getvalue()
    with pytest.raises(ValueError, match=r"(?i)truncated|not an image|unrecognized|decod"):
        load_pixels(io.BytesIO(content[: int(len(content) * share)]), 8)


@settings(max_examples=150)
@given(st.sampled_from(["jpeg", "png", "webp", "bmp"]), st.data())
def test_damaged_files_give_pixels_or_a_value_error(kind: str, data: st.DataObject) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(file, format=kind)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        where = data.draw(st.integers(0, min(len(content), 120) - 1))
        content[where] = data.draw(st.integers(0, 255))
    try:
        assert load_pixels(io.BytesIO(bytes(content)), 4).shape == (4, 4, 3)
    except ValueError as error:
        assert str(error)  # noqa: PT017  (any reason will do, no other kind of error)


def test_missing_file_and_folder_are_operating_system_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_pixels(tmp_path / "none.jpg", 8)
    with pytest.raises(OSError, match="directory"):
        load_pixels(tmp_path, 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("limit", "reason"), [(299, "20x15 is too large; at most 299 pixels"),
                                               (149, "exceeds limit of 298 pixels"),
                                               (10, "could be decompression bomb")])  # fmt: skip
def test_decompression_bombs_are_refused(
    monkeypatch: pytest.MonkeyPatch, limit: int, reason: str
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 15)).save(file, format="png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=reason):
        load_pixels(file, 8)


def test_side_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="side=0 is out of range; expected 1 or more"):
        load_pixels(grey(1), 0)


def test_centre_crop_is_the_middle() -> None:
    image = noise(7, 9)
    assert (centre_crop(image, 3) == image[2:5, 3:6]).all()
    batch = np.stack([image, image])
    assert (centre_crop(batch, 7) == batch[:, :, 1:8]).all()


@pytest.mark.parametrize("resolution", [0, 8])
def test_centre_crop_refuses_what_does_not_fit(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution={resolution} cannot be cropped out of 7x9"):
        centre_crop(noise(7, 9), resolution)


def test_source_can_be_embedded_in_a_script() -> None:
    source = Path(pixels_module.__file__).read_text(encoding="utf-8")
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert modules - set(sys.stdlib_module_names) == {"numpy", "PIL"}
    assert "__future__" not in modules  # allowed at the top of a file only
    space: dict[str, object] = {"__name__": "embedded"}
    exec("import sys\n" + source, space)
    function = space["load_pixels"]
    assert callable(function)
    assert (function(grey(9), 2) == 9).all()


def test_whole_image_is_stretched_to_a_square() -> None:
    """A gradient from left to right stays one from edge to edge, whatever the sides."""
    wide = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (10, 1, 3))
    found = load_pixels(Image.fromarray(wide), 16, whole=True)
    assert found.shape == (16, 16, 3)
    assert found[0, 0, 0] < 16
    assert found[0, -1, 0] > 240
    assert (np.diff(found[0, :, 0].astype(int)) > 0).all()
