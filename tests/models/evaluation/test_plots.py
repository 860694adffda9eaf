"""Plots that can be looked at, of any number of classes."""

from pathlib import Path

import pytest
from PIL import Image as pillow

from models.detections import Detections
from models.evaluation.assessment import Assessment, assess
from models.evaluation.plots import draw_pictures
from tests.support.data.ground_truth import CAT, LABELS, noisy_predictions, random_truths, truth

SQUARE = (0.0, 0.0, 10.0, 10.0)


def assessed(classes: int, images: int = 12) -> Assessment:
    names = tuple(
        ["background", "_under $a$", "owl {x}", "赤血球"] + [f"class {k}" for k in range(3, classes)]
    )
    truths = random_truths(images, classes)
    return assess(truths, noisy_predictions(truths, classes), names[: classes + 1], 0.5)


@pytest.mark.parametrize("classes", [1, 12, pytest.param(40, marks=pytest.mark.slow)])
def test_plots_are_pngs_with_something_on_them(tmp_path: Path, classes: int) -> None:
    """And matplotlib's settings stay as they were."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    paths = draw_pictures(assessed(classes), tmp_path / "deep" / "plots", "cats $1 _ on [data]")
    assert [path.name for path in paths] == ["precision_recall.png", "confusion_matrix.png"]
    for path in paths:
        with pillow.open(path) as image:
            assert image.format == "PNG"
            assert 600 <= min(image.size) <= max(image.size) <= 3000
            colours = image.convert("RGB").getcolors(2**24) or []
        assert len(colours) > 50
        assert max(colours)[0] < 0.99 * sum(count for count, _ in colours), "more than a title"
    assert dict(matplotlib.rcParams) == before


def test_plots_of_nothing_are_drawn_too(tmp_path: Path) -> None:
    nothing = assess([truth()], [Detections.empty()], LABELS, 0.5)
    missed = assess([truth((CAT, SQUARE, False))], [Detections.empty()], LABELS, 0.5)
    for number, assessment in enumerate((nothing, missed)):
        for path in draw_pictures(assessment, tmp_path / str(number), "nothing"):
            with pillow.open(path) as image:
                assert min(image.size) >= 600
