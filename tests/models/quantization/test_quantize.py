"""`rcnn quantize` on a small model of one's own: an artefact for its weights alone, or nothing."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from app.commands import CommandFailed
from app.commands.arguments import QuantizeArguments
from app.commands.quantize import run
from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.images.decoder import Limits, decode
from models.options import Options
from models.quantization.calibration import choose_evenly
from models.quantization.measure import count_matches
from models.shapes.scenes import draw_scene
from models.zoo.cards import read_card
from models.zoo.catalogue import find_card
from models.zoo.quantized import QuantizedError, find_quantized, read_manifest
from tests.support.data.annotated import write_small_coco
from tests.support.data.cards import write_model
from tests.support.data.networks import random_network
from tests.support.rcnn import rcnn

pytestmark = pytest.mark.network

IMAGES = 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(IMAGES):
        PillowImage.fromarray(draw_scene(8, k).pixels).resize((160, 120)).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def write(folder: Path, seed: int = 3) -> Path:
    """A card and random weights in a folder."""
    sizes = {"score_threshold": 0.1, "min_size": 96, "max_size": 160}
    card = write_model(folder, random_network(spread=10, seed=seed), **sizes)
    card.write_text(f"{card.read_text()}\n[training]\nap = 0.5\n")
    return card


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[Path, str, str]:
    """The card of a model that the command has quantized; what it printed."""
    card = write(tmp_path_factory.mktemp("model"))
    ran = rcnn("quantize", "--model", card, "--images", pictures, "--max-drop", 0.9)
    assert ran.code == 0, ran.err
    return card, ran.out, ran.err


def load(card: Path, cache_dir: Path, precision: str = "int8") -> Detector:
    return load_detector(DetectorSpec(str(card), cache_dir, device="cpu", precision=precision))


def test_the_artefact_lies_beside_the_weights(quantized: tuple[Path, str, str]) -> None:
    card, out, err = quantized
    folder = card.parent / "mine.int8-v1"
    assert out.strip() == str(folder)
    assert {path.name for path in folder.iterdir()} == {
        "dense.xml", "dense.bin", "head.xml", "head.bin", "int8.json",
    }  # fmt: skip
    assert (folder / "dense.bin").stat().st_size < 3.5e6  # of 12.7e6 in fp32
    assert f"RCNN_PRECISION=int8 RCNN_MODEL={card}" in err
    assert {path.name for path in card.parent.iterdir()} == {"mine.toml", "mine.safetensors", "mine.int8-v1"}


def test_manifest_and_card_say_what_was_measured(quantized: tuple[Path, str, str]) -> None:
    card = read_card(quantized[0])
    manifest = read_manifest(quantized[0].parent / "mine.int8-v1")
    assert manifest.weights == card.sha256
    assert (manifest.measure, manifest.images, manifest.fp32) == ("agreement", IMAGES, 1.0)
    assert 0.1 <= manifest.int8 <= 1
    assert card.int8 is not None
    assert card.int8["agreement"] == manifest.int8
    assert card.accuracy is None, "agreement proves no AP"
    assert card.training == {"ap": 0.5}


def test_it_answers_much_as_fp32_does(
    quantized: tuple[Path, str, str], pictures: Path, tmp_path: Path
) -> None:
    image = decode((pictures / "0.png").read_bytes(), Limits(10**6))
    ours, theirs = (load(quantized[0], tmp_path, precision) for precision in ("int8", "fp32"))
    assert (ours.engine_name, ours.precision) == ("openvino", "int8")
    options = Options(0.1, 0.5, 100)
    found, expected = (one.detect([Job(one.prepare(image), options)])[0] for one in (ours, theirs))
    assert len(expected) > 2
    assert count_matches(found, expected) > 0.3 * len(expected)


def test_other_weights_are_refused(quantized: tuple[Path, str, str], tmp_path: Path) -> None:
    write(tmp_path, seed=4)
    shutil.copytree(quantized[0].parent / "mine.int8-v1", tmp_path / "mine.int8-v1")
    with pytest.raises(QuantizedError, match=r"made for other weights.*rcnn quantize --model \S+mine\.toml"):
        load(tmp_path / "mine.toml", tmp_path)


def test_a_damaged_artefact_is_refused(quantized: tuple[Path, str, str], tmp_path: Path) -> None:
    shutil.copytree(quantized[0].parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "mine.int8-v1"
    (folder / "dense.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"int8-v1 is damaged; quantize the model again"):
        load(tmp_path / "mine.toml", tmp_path)
    values = json.loads((folder / "int8.json").read_text())
    (folder / "int8.json").write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(QuantizedError, match="not of format 1"):
        load(tmp_path / "mine.toml", tmp_path)


def test_an_artefact_with_a_value_that_is_not_finite_is_refused(
    quantized: tuple[Path, str, str], tmp_path: Path
) -> None:
    shutil.copytree(quantized[0].parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "mine.int8-v1"
    described = (folder / "head.xml").read_text()
    last = re.findall(r'<data element_type="f32" [^>]*offset="(\d+)" size="\d\d+"', described)[-1]
    content = bytearray((folder / "head.bin").read_bytes())
    content[int(last) : int(last) + 4] = np.float32("nan").tobytes()
    (folder / "head.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"the model again \(.*holds 1 of \d+ values that are not finite"):
        load(tmp_path / "mine.toml", tmp_path)


def test_a_card_without_a_hash_gets_one(tmp_path: Path, pictures: Path) -> None:
    card = write(tmp_path)
    known = read_card(card)
    card.write_text(re.sub(r"(?m)^sha256 = .*\n", "", card.read_text()))
    run(QuantizeArguments(str(card), pictures, count=1, max_drop=1.0))
    assert read_card(card).sha256 == known.sha256
    assert read_card(card).training == known.training


def test_without_an_artefact_the_error_says_what_to_run(tmp_path: Path) -> None:
    card = write(tmp_path)
    with pytest.raises(
        QuantizedError, match=r"no int8 artefact.*rcnn quantize --model \S+mine\.toml --images DIR"
    ):
        load(card, tmp_path)


@pytest.mark.slow
def test_too_great_a_loss_leaves_nothing_behind(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every step is tried: what stays fp32 grows until there is nothing left to try."""
    (tmp_path / "model").mkdir()
    card = write(tmp_path / "model")
    before = card.read_text()
    arguments = QuantizeArguments(str(card), pictures, count=1, max_drop=0.0, out=tmp_path / "out")
    with pytest.raises(
        CommandFailed, match=r"int8 loses at least 0\.\d+ agreement, 0\.0000 are allowed"
    ) as failed:
        run(arguments)
    assert failed.value.code == 1
    assert capsys.readouterr().err.count("int8 but for") == 3
    assert list((tmp_path / "out").iterdir()) == []
    assert card.read_text() == before


def test_annotated_images_are_measured_by_ap(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled model and its classes; the artefact goes where --out says, the card stays as it is."""
    write_small_coco(tmp_path / "data", "val", 32, 3)
    document = tmp_path / "data" / "annotations" / "instances_val.json"
    document.write_text(document.read_text().replace('"even"', '"one"').replace('"odd"', '"two"'))
    card, out = write(tmp_path), tmp_path / "out"
    before = card.read_text()
    run(QuantizeArguments(str(card), pictures, 2, tmp_path / "data", "val", max_drop=1.0, out=out))
    assert card.read_text() == before
    manifest = read_manifest(out / "mine.int8-v1")
    assert (manifest.measure, manifest.evaluated_images) == ("AP", 3)
    assert 0 <= manifest.fp32 <= 1
    assert "put the folder beside the model's weights, or into RCNN_CACHE_DIR" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "expected"), [(10, [0, 1, 2, 3, 4]), (2, [0, 2]), (3, [0, 1, 3])])
def test_images_are_chosen_evenly(count: int, expected: list[int]) -> None:
    files = [Path(str(k)) for k in range(5)]
    assert choose_evenly(files, count) == [files[k] for k in expected]


def test_twins_have_one_label_and_overlap_by_half_and_are_used_once() -> None:
    def found(*rows: tuple[float, float, float, float, int]) -> Detections:
        boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
        return Detections(boxes, np.array([row[4] for row in rows], np.int64), np.ones(len(rows), np.float32))

    one = found((0, 0, 10, 10, 1), (0, 0, 10, 10, 1), (20, 0, 30, 10, 2), (50, 0, 60, 10, 1))
    other = found((0, 0, 10, 9, 1), (20, 0, 30, 10, 3), (50, 0, 60, 4, 1))
    assert count_matches(one, other) == 1
    assert count_matches(one, one) == 4
    assert count_matches(one, found()) == count_matches(found(), one) == 0


@pytest.mark.parametrize("model", ["shapes", "blood-cells"])
def test_the_bundled_artefacts_are_of_the_bundled_weights_and_lose_next_to_nothing(model: str) -> None:
    """A loss of 0.005 of AP is what int8 may cost; the card records each precision."""
    card = find_card(model, None)
    manifest = read_manifest(find_quantized(card, card.weights_file, Path("none")))
    assert (manifest.model, manifest.weights, manifest.measure) == (model, card.sha256, "AP")
    assert manifest.fp32 - manifest.int8 <= 0.005
    assert manifest.evaluated_images >= 80
    assert card.accuracy is not None
    recorded = card.accuracy.measured
    assert set(recorded) == {"fp32", "bf16", "int8"}
    assert max(recorded.values()) - min(recorded.values()) <= 0.002


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandFailed, match="no image in"):
        run(QuantizeArguments("shapes", tmp_path / "empty"))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(CommandFailed, match="none of the images can be read"):
        run(QuantizeArguments("shapes", tmp_path, out=tmp_path / "out"))
