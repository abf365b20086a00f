from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pocketvision.data.scene import envi, envi_header
from pocketvision.data.scene.envi import read_envi
from pocketvision.data.scene.envi_header import header_of, is_header, read_header
from pocketvision.data.scene.reading import open_scene
from pocketvision.errors import DataError

Array = NDArray[Any]

FIELDS = {
    "samples": "4",
    "lines": "3",
    "bands": "5",
    "data type": "2",
    "interleave": "bip",
    "byte order": "0",
}
CUBE = np.arange(60, dtype="<i2").reshape(3, 4, 5)


def write(folder: Path, data: bytes | None = None, **changed: str | None) -> Path:
    """cube.img and cube.hdr; changed: fields with _ for a blank, None to leave one out."""
    fields = FIELDS | {key.replace("_", " "): value for key, value in changed.items()}
    text = "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)
    (folder / "cube.img").write_bytes(CUBE.tobytes() if data is None else data)
    (folder / "cube.hdr").write_text("ENVI\n" + text, encoding="utf-8")
    return folder / "cube.hdr"


def wavelengths(folder: Path, units: str | None, values: str = "1, 2, 3, 4, 5") -> list[float]:
    path = write(folder, wavelength="{" + values + "}", wavelength_units=units)
    return list(read_envi(path, "").wavelengths_nm)


def test_header_as_programs_write_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(
        b"ENVI\r\n; a comment = 3\r\ndescription = {\r\n  two lines, a = b\r\n  here }\r\n"
        b"Samples = 4\r\nLINES   = 3\r\nbands=5\r\nDATA  TYPE = 2\r\nInterleave = BIP\r\n"
        b"sensor type = \xb5m\r\nwavelength = {\r\n 400.5, 410,\r\n 420 , 430,440.25}\r\n"
    )
    header = read_header(path)
    assert (header.shape, header.dtype, header.interleave) == ((3, 4, 5), np.dtype("<i2"), "bip")
    assert header.fields["description"] == "two lines, a = b\n  here"
    assert header.fields["sensor type"] == "µm"
    assert read_envi(path, "").wavelengths_nm == (400.5, 410.0, 420.0, 430.0, 440.25)


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("Nanometers", 1),
        ("nm", 1),
        ("Micrometers", 1000),
        ("um", 1000),
        ("µm", 1000),  # the micro sign
        ("μm", 1000),  # the Greek letter
        ("Unknown", 1000),
        (None, 1000),
    ],
)
def test_wavelengths_become_nm(tmp_path: Path, units: str | None, factor: int) -> None:
    assert wavelengths(tmp_path, units) == [factor * n for n in (1, 2, 3, 4, 5)]


def test_wavelengths_without_a_unit_are_nm_where_they_are_large(tmp_path: Path) -> None:
    given = "400, 500, 600, 700, 800"
    assert wavelengths(tmp_path, None, given) == [400, 500, 600, 700, 800]


def test_wavelengths_in_a_unit_that_is_no_length_are_left_out(tmp_path: Path) -> None:
    assert wavelengths(tmp_path, "Wavenumber") == []
    assert wavelengths(tmp_path, "Index") == []


def test_data_ignore_value(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path, data_ignore_value="-9999"))
    assert scene.no_data == -9999
    assert open_scene(tmp_path / "cube.img", no_data=0).no_data == 0


def test_classification_file_gives_names_and_colours(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "labels.dat").write_bytes(bytes([0, 1, 2, 2, 0, 0, 1, 1, 2, 2, 2, 2]))
    (tmp_path / "labels.hdr").write_text(
        "ENVI\nsamples = 4\nlines = 3\nbands = 1\ndata type = 1\ninterleave = bsq\n"
        "file type = ENVI Classification\nclasses = 3\n"
        "class names = {Unclassified, Corn, Woods}\n"
        "class lookup = {0, 0, 0, 255, 0, 10, 0, 100, 20}\n"
    )
    scene = open_scene(tmp_path)
    assert scene.classes == ("Corn", "Woods")
    assert scene.colours == ((255, 0, 10), (0, 100, 20))
    assert scene.labels is not None
    assert scene.labels.tolist() == [[0, 1, 2, 2], [0, 0, 1, 1], [2, 2, 2, 2]]


def test_map_info_gives_the_georeference(tmp_path: Path) -> None:
    info = "{UTM, 1, 1, 600000, 4000000, 20, 20, 11, North, WGS-84, units=Meters}"
    place = open_scene(write(tmp_path, map_info=info)).georeference
    assert place is not None
    assert place.transform == (20.0, 0.0, 600000.0, 0.0, -20.0, 4000000.0)
    assert rasterio.crs.CRS.from_wkt(place.crs).to_epsg() == 32611
    assert open_scene(write(tmp_path)).georeference is None


def test_map_info_without_rasterio_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    info = "{UTM, 1, 1, 600000, 4000000, 20, 20, 11, North, WGS-84, units=Meters}"
    assert open_scene(write(tmp_path, map_info=info)).georeference is None


def test_compressed_file(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(CUBE.tobytes()), file_compression="1")
    np.testing.assert_array_equal(open_scene(path).cube.rows(0, 3), CUBE)


def test_compressed_file_that_is_damaged_or_has_another_size(tmp_path: Path) -> None:
    damaged = gzip.compress(CUBE.tobytes())[:-9]
    with pytest.raises(DataError, match=r"cube\.img' is a damaged gzip file \("):
        open_scene(write(tmp_path, damaged, file_compression="1"))
    with pytest.raises(DataError, match="is a damaged gzip file"):
        open_scene(write(tmp_path, file_compression="1"))
    bomb = gzip.compress(bytes(10_000_000))  # read no further than one byte too many
    with pytest.raises(DataError, match=r"has 121 bytes, but its header says 120"):
        open_scene(write(tmp_path, bomb, file_compression="1"))


def test_uncompressed_cube_stays_on_disk(tmp_path: Path) -> None:
    cube: Any = open_scene(write(tmp_path)).cube
    assert isinstance(cube.array, np.memmap)


@pytest.mark.parametrize("name", ["cube", "cube.img", "cube.DAT", "cube.bsq"])
def test_file_of_numbers_is_found_from_the_header_and_back(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (tmp_path / "cube.img").rename(tmp_path / name)
    assert read_header(path).data == tmp_path / name
    assert header_of(tmp_path / name) == path
    np.testing.assert_array_equal(open_scene(tmp_path / name).cube.rows(0, 3), CUBE)


def test_header_with_both_endings(tmp_path: Path) -> None:
    path = write(tmp_path).rename(tmp_path / "cube.img.hdr")
    assert read_header(path).data == tmp_path / "cube.img"
    assert header_of(tmp_path / "cube.img") == path


def test_header_without_numbers_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "cube.img").unlink()
    with pytest.raises(DataError, match=r"has no file of numbers beside it; expected 'cube', with"):
        read_header(path)


@pytest.mark.parametrize("key", ["samples", "lines", "bands", "data type", "interleave"])
def test_missing_key(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, None, **{key.replace(" ", "_"): None})
    with pytest.raises(DataError, match=rf"has no '{key}'; add the line: {key} = \.\.\."):
        read_header(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"interleave": "bsp"}, "interleave = 'bsp' is unknown; expected bsq, bil or bip"),
        ({"data_type": "6"}, r"data type = 6 are complex numbers; expected one of \[1, 2, 3"),
        ({"data_type": "9"}, "data type = 9 are complex numbers"),
        ({"data_type": "7"}, r"data type = 7 is unknown; expected one of \[1, 2, 3"),
        ({"byte_order": "2"}, "byte order = 2 is unknown; expected 0 or 1"),
        ({"lines": "0"}, "lines = '0'; expected a whole number from 1 up"),
        ({"lines": "-3"}, "lines = '-3'; expected a whole number from 1 up"),
        ({"lines": "3.0"}, "lines = '3.0'; expected a whole number from 1 up"),
        ({"lines": "9" * 40}, "expected a whole number from 1 up"),
        ({"lines": "³"}, "lines = '³'; expected a whole number from 1 up"),
        ({"header_offset": "x"}, "header offset = 'x'; expected a whole number from 0 up"),
        ({"wavelength": "{1, 2, x, 4, 5}"}, "'wavelength' must be numbers .*'x'.*remove it"),
        ({"wavelength": "{1, 2}"}, "has 2 numbers in 'wavelength' for 5 bands; correct or remove"),
        ({"bbl": "{1, 0}"}, "has 2 numbers in 'bbl' for 5 bands; correct or remove them"),
        ({"wavelength": "{400, 500, nan, 700, 800}"}, "wavelength nan is no positive number of nm"),
        ({"wavelength": "{1, 2"}, "the list of 'wavelength' has no closing }"),
        ({"data_ignore_value": "none"}, "'data ignore value' must be numbers"),
    ],
)
def test_field_that_cannot_be_used(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_scene(write(tmp_path, None, **changed))


@pytest.mark.parametrize("size", [0, 118, 121, 240])
def test_file_of_another_size_than_the_header_says(tmp_path: Path, size: int) -> None:
    with pytest.raises(
        DataError,
        match=rf"cube\.img' has {size} bytes, but its header says 120 \(lines x samples x bands = "
        rf"3x4x5, 2 bytes each, header offset 0\); correct cube\.hdr\.",
    ):
        read_header(write(tmp_path, bytes(size)))


@pytest.mark.parametrize("content", [b"", b"NCOLS 4\n", b"ENVI\nsamples = 4\0", b"\xff\xfe\0\0"])
def test_file_that_is_no_header(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path)
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no ENVI header: it must be text that begins with ENVI"):
        read_header(path)


def test_foreign_hdr_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    assert is_header(write(tmp_path))
    (tmp_path / "dem.hdr").write_text("NCOLS 4\n")
    assert not is_header(tmp_path / "dem.hdr")
    assert open_scene(tmp_path).cube.shape == (3, 4, 5)


def test_header_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert is_header(path)
    assert read_header(path).shape == (3, 4, 5)


def test_header_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envi_header, "MAX_HEADER_BYTES", 100)
    path = write(tmp_path, description="{" + "x" * 100 + "}")
    with pytest.raises(DataError, match=r"has \d+ bytes; an ENVI header has at most 100\."):
        read_header(path)


def test_hostile_header_is_read_in_no_time(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text("ENVI\n" + "{" * 500_000 + "=" * 500_000 + "\n" + "a = {\n" * 200_000)
    with pytest.raises(DataError, match=r"no closing }"):
        read_header(path)


def test_bad_bands_are_those_with_0(tmp_path: Path) -> None:
    assert open_scene(write(tmp_path, bbl="{1, 0, 1, 1.0, 0}")).bad_bands == (2, 5)
    assert open_scene(write(tmp_path)).bad_bands == ()


def test_compressed_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envi, "PART_BYTES", 7)
    path = write(tmp_path, gzip.compress(CUBE.tobytes()), file_compression="1")
    np.testing.assert_array_equal(open_scene(path).cube.rows(0, 3), CUBE)


def test_header_that_promises_more_than_fits_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = gzip.compress(bytes(10_000))
    path = write(tmp_path, small, lines="180000000000", file_compression="1")
    with pytest.raises(
        DataError, match=r"has 10,000 bytes, but its header says 7,200,000,000,000 \(lines"
    ):
        open_scene(path)

    def exhausted(*args: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(gzip.GzipFile, "read", exhausted)
    with pytest.raises(
        DataError,
        match=r"does not fit into memory: unpacked it has 7,200,000,000,000 bytes; unpack it with",
    ):
        open_scene(path)
