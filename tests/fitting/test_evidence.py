import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import write_photos

from pocketvision.data.images import Samples, scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import DataError
from pocketvision.fitting import from_files
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.evidence import MISTAKES, THUMBNAIL_SIDE, thumbnail, worst_mistakes
from pocketvision.fitting.from_files import network_answers, pixels_of_row, run_on_files
from pocketvision.fitting.reporter import Silent
from pocketvision.models import registry

FLAT = registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2).build(seed=0)


@pytest.fixture(scope="module")
def samples(photos: Path) -> Samples:
    return scan(photos)


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def test_mistakes_are_the_surest_wrong_ones_first(samples: Samples) -> None:
    rows = samples.indices("train")
    labels = samples.labels[rows]
    logits = np.zeros((len(rows), 2), np.float32)
    logits[np.arange(len(rows)), labels] = 1
    sure = {3: 5.0, 8: 9.0, 11: 2.0}
    for row, logit in sure.items():
        logits[row, 1 - labels[row]] = logit
    found = worst_mistakes(samples, rows, logits)
    assert [one.path for one in found] == [samples.paths[rows[k]] for k in (8, 3, 11)]
    assert [one.named != one.true for one in found] == [True] * 3
    assert [one.true for one in found] == [samples.classes[labels[k]] for k in (8, 3, 11)]
    assert found[0].probability == pytest.approx(1 / (1 + np.exp(1 - 9.0)))


def test_only_so_many_mistakes_are_kept(samples: Samples) -> None:
    rows = samples.indices("train")
    logits = np.zeros((len(rows), 2), np.float32)
    logits[np.arange(len(rows)), 1 - samples.labels[rows]] = 1
    assert len(worst_mistakes(samples, rows, logits)) == MISTAKES < len(rows)
    assert worst_mistakes(samples, rows, -logits) == ()


def test_image_that_changed_since_the_scan_stops_the_run_with_its_name(tmp_path: Path) -> None:
    """Its thumbnail would otherwise stand beside the answer to another image."""
    found = scan(write_photos(tmp_path / "photos", per_class=4))
    rows = found.indices("val")
    changed = found.root / found.paths[rows[0]]
    Image.new("RGB", (24, 30)).save(changed)
    logits = np.zeros((len(rows), 2), np.float32)
    logits[np.arange(len(rows)), 1 - found.labels[rows]] = 1
    message = rf"{changed.name}' was changed after it was scanned; scan the folder again"
    with pytest.raises(DataError, match=message):
        worst_mistakes(found, rows, logits)
    pre = Preprocessing.for_resolution(32)
    with pytest.raises(DataError, match=message):
        run_on_files(found, rows, pre, FLAT, {}, Silent())


@pytest.mark.parametrize("together", [1, 4, 1000])
def test_float_answers_in_batches_are_those_of_single_images_in_their_order(
    samples: Samples, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(from_files, "FLOAT_PIXELS", together * 32 * 32)
    rows, pre = samples.indices("train")[:10][::-1], Preprocessing.for_resolution(32)
    found = run_on_files(samples, rows, pre, FLAT, {}, Silent()).answers["float"]
    alone = [network_answers(FLAT, pixels_of_row(samples, row, pre)[None], pre)[0] for row in rows]
    assert len(np.unique(alone, axis=0)) > 1
    np.testing.assert_allclose(found, alone, atol=1e-4)


@pytest.mark.parametrize("size", [(640, 320), (30, 24), (1, 500)])
def test_a_thumbnail_shows_the_whole_image_and_is_never_enlarged(size: tuple[int, int]) -> None:
    written = io.BytesIO()
    Image.new("RGBA", size, (200, 10, 10, 255)).save(written, "PNG")
    small = opened(thumbnail(written.getvalue()))
    assert small.format == "JPEG"
    factor = min(1.0, THUMBNAIL_SIDE / max(size))
    assert small.size == tuple(max(1, round(factor * side)) for side in size)


def test_a_run_records_what_the_page_shows(fitted: Artefact) -> None:
    record = fitted.record
    assert record.calibration is not None
    assert record.calibration.split == record.data.headline_split
    assert sum(one.n for one in record.calibration.bins) == record.headline.n
    assert record.headline.correct is not None
    wrong = record.headline.n - record.headline.correct
    assert len(record.mistakes) == min(wrong, MISTAKES)
    assert sum(one.share for one in record.layers) == pytest.approx(1)
    kinds = {one.operator for one in record.layers}
    assert kinds & {"Conv", "QLinearConv"}
