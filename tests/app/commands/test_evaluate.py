"""`rcnn evaluate`: three formats, here and through a real server, against pycocotools on the saved files."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from PIL import Image as pillow
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.evaluation.coco import NUMBERS, RECALLS
from models.shapes.scenes import LABELS, Scene, draw_large_scene, draw_scene
from tests.support.data.annotated import write_coco, write_voc, write_yolo
from tests.support.process import Program
from tests.support.rcnn import RCNN, Ran, rcnn

pytestmark = pytest.mark.network

COUNT, SEED = 8, 2


def evaluate(*arguments: object, **settings: str) -> Ran:
    """`rcnn evaluate` with these arguments and settings, on one thread, in fp32."""
    return rcnn("evaluate", *arguments, **({"inference_threads": "1", "precision": "fp32"} | settings))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, scenes: list[Scene]) -> dict[str, Path]:
    """The scenes in each format."""
    folder = tmp_path_factory.mktemp("data")
    return {
        name: write(folder / name, scenes)
        for name, write in (("coco", write_coco), ("voc", write_voc), ("yolo", write_yolo))
    }


@dataclass(frozen=True)
class Evaluated:
    """A run with everything saved."""

    ran: Ran
    results: Path
    plots: Path

    @property
    def numbers(self) -> dict[str, float]:
        return cast(dict[str, float], self.ran.json["numbers"])


@pytest.fixture(scope="module")
def here(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """The bundled model on the COCO files, in this process."""
    out = tmp_path_factory.mktemp("out")
    saved = ("--results", out / "new" / "results.json", "--plots", out / "plots")
    ran = evaluate(data["coco"], "--model", "shapes", "--split", "val", "--json", *saved)
    return Evaluated(ran, out / "new" / "results.json", out / "plots")


# -- the numbers ---------------------------------------------------------------------------------------------


def test_pycocotools_finds_the_same_in_the_saved_files(here: Evaluated) -> None:
    assert here.ran.code == 0
    truth_file = here.results.with_name("results.truth.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        run = COCOeval(truth, truth.loadRes(str(here.results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert list(here.numbers) == [*NUMBERS, *RECALLS]
    assert list(here.numbers.values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    assert 0.2 < here.numbers["AP"] < 1
    assert {image["file_name"] for image in truth.dataset["images"]} == {f"scene{k}.png" for k in range(8)}


@pytest.mark.parametrize(("format", "flags"), [("voc", ()), ("yolo", ("--format", "yolo"))])
def test_every_format_gives_the_same(
    here: Evaluated, data: dict[str, Path], format: str, flags: tuple[str, ...]
) -> None:
    """`here` read the COCO files."""
    assert here.ran.json["data"]["format"] == "coco"
    answer = evaluate(data[format], "--model", "shapes", "--split", "val", "--json", *flags).json
    assert answer["data"]["format"] == format
    assert answer["numbers"] == pytest.approx(here.numbers, abs=1e-6)
    assert answer["counts"] == here.ran.json["counts"]


def test_everything_is_one_json_object(here: Evaluated, scenes: list[Scene]) -> None:
    answer = here.ran.json
    objects = sum(len(scene.labels) for scene in scenes)
    assert answer["counts"]["images"] == COUNT
    assert answer["counts"]["objects"] == sum(answer["counts"]["objects_by_size"].values()) == objects
    assert sum(each["objects"] for each in answer["classes"]) == objects
    assert answer["asked"] == {"score_threshold": 0.05, "nms_threshold": 0.5, "max_detections": 100}
    model = answer["model"]
    expected = {"name": "shapes", "engine": "openvino", "precision": "fp32", "device": "cpu", "url": None}
    assert {key: model[key] for key in expected} == expected
    matrix = answer["confusion"]["matrix"]
    assert answer["confusion"]["labels"] == list(LABELS)
    assert sum(map(sum, matrix[1:])) == objects, "every object is in one cell of its row"
    for label, each in enumerate(answer["classes"], start=1):
        assert len(each["precision_at_recall"]) == 101
        assert sum(matrix[label]) == each["objects"]
        assert each["recall"] * each["objects"] >= matrix[label][label] - 1e-6
    assert answer["warnings"] == []
    assert here.ran.err == ""
    assert answer["seconds"]["per_image"] == pytest.approx(answer["seconds"]["total"] / COUNT)


def test_pictures_are_drawn(here: Evaluated) -> None:
    names = {path.name for path in here.plots.iterdir()}
    assert names == {"confusion_matrix.png", "precision_recall.png"}
    for path in here.plots.iterdir():
        with pillow.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) >= 600
            assert len(image.convert("RGB").getcolors(2**24)) > 50


def test_tables_are_for_people(here: Evaluated, data: dict[str, Path], tmp_path: Path) -> None:
    ran = evaluate(data["voc"], "--model", "shapes", "--plots", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("shapes on voc\n8 images, ")
    assert "openvino · fp32 · cpu · " in ran.out
    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines() if line.strip()}
    assert rows["precision"][1:] == [f"{here.numbers[name]:.3f}" for name in NUMBERS]
    for each in here.ran.json["classes"]:
        assert rows[each["name"]][:3] == [str(each["objects"]), f"{each['AP']:.3f}", f"{each['AP50']:.3f}"]
    assert f"written: {tmp_path / 'confusion_matrix.png'}" in ran.out


# -- through a service ---------------------------------------------------------------------------------------


class RealProgram(Program):
    """`rcnn serve` with the bundled model; its options override the settings."""

    command = (*RCNN[1:], "serve", "--port", "0", "--model", "shapes", "--device", "cpu")


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """Its URL; it has a key, and SIGTERM ends it with 0."""
    overridden = {"port": "1", "model": "nonesuch", "device": "cuda:9"}
    program = RealProgram(inference_threads="1", api_keys="secret", precision="fp32", **overridden)
    program.logged(r"\bready\b", 120)
    yield f"http://127.0.0.1:{program.port}"
    program.terminate()
    assert program.ended() == 0
    program.close()


def test_a_service_scores_as_its_model_does_here(
    here: Evaluated, data: dict[str, Path], service: str, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    flags = ("--url", service, "--api-key", "secret", "--split", "val", "--json", "--results", results)
    there = evaluate(data["coco"], *flags)
    assert (there.code, there.err) == (0, "")
    assert there.json["numbers"] == pytest.approx(here.numbers, abs=1e-6)
    for each, other in zip(there.json["classes"], here.ran.json["classes"], strict=True):
        assert (each.pop("name"), each.pop("objects")) == (other["name"], other["objects"])
        for key, value in each.items():
            assert value == pytest.approx(other[key], abs=1e-6), key
    assert there.json["confusion"] == here.ran.json["confusion"]
    same = ("name", "labels", "score_threshold", "nms_threshold", "engine", "precision", "device")
    for key in same:
        assert there.json["model"][key] == here.ran.json["model"][key]
    assert there.json["model"]["url"] == service
    assert len(json.loads(results.read_text())) == len(json.loads(here.results.read_text()))


def test_tiles_find_small_objects_here_and_through_a_service(service: str, tmp_path: Path) -> None:
    data = write_coco(tmp_path, [draw_large_scene(SEED, 1, (1100, 800), 16)])
    flags = ("--split", "val", "--json")
    whole = evaluate(data, "--model", "shapes", *flags)
    tiled = evaluate(data, "--model", "shapes", "--tile", "auto", *flags)
    there = evaluate(data, "--url", service, "--api-key", "secret", "--tile", "auto", *flags)
    flipped = evaluate(data, "--model", "shapes", "--flip", *flags)
    flipped_there = evaluate(data, "--url", service, "--api-key", "secret", "--flip", *flags)
    assert (tiled.code, there.code) == (0, 0), tiled.err + there.err
    assert tiled.json["numbers"]["AP_small"] > whole.json["numbers"]["AP_small"] + 0.1
    assert there.json["numbers"] == pytest.approx(tiled.json["numbers"], abs=1e-6)
    assert flipped_there.json["numbers"] == pytest.approx(flipped.json["numbers"], abs=1e-6)
    assert flipped.json["numbers"]["AP"] != whole.json["numbers"]["AP"]
    many = evaluate(data, "--model", "shapes", "--tile", "64", *flags)
    assert many.code == 1
    assert "at most 64 may" in many.err
    wrong = evaluate(data, "--tile", "12")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--tile 12: must be auto or a whole number from 64 to 8192" in wrong.err


def test_a_service_needs_its_key(data: dict[str, Path], service: str) -> None:
    ran = evaluate(data["coco"], "--url", service)
    assert (ran.code, ran.out) == (1, "")
    assert "(401 unauthorized)" in ran.err


def test_a_refused_image_is_reported_and_counts_as_missed(program: Program, tmp_path: Path) -> None:
    """`program` takes no body above 20 kB, and finds a square and a disc in every image."""
    scenes = [draw_scene(SEED, index) for index in range(2)]
    root = write_coco(tmp_path / "data", scenes, ("background", "square", "disc", *LABELS[3:]))
    small = pillow.new("RGB", scenes[0].pixels.shape[1::-1], "white")
    small.save(root / "val" / "scene0.png")
    ran = evaluate(root, "--url", f"http://127.0.0.1:{program.port}", "--json")
    assert ran.code == 1
    [(file, fault)] = ran.json["images_without_answer"].items()
    assert file.endswith("scene1.png")
    assert "(413 body_too_large)" in fault
    assert "1 of 2 images got no answer: their objects count as missed" in ran.err
    assert ran.json["counts"]["detections"] == 2
    assert ran.json["model"]["name"] == "fake"
    assert ran.json["classes_only_in_model"] == ["kite"]


def test_a_url_must_answer_and_brings_its_own_model(
    data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ("--url", "http://127.0.0.1:9")
    ran = evaluate(data["coco"], *url)
    assert (ran.code, ran.out) == (1, "")
    assert "is the service running there?" in ran.err
    assert evaluate(data["coco"], "--url", "127.0.0.1:8000").code == 2
    ran = evaluate(data["coco"], *url, "--model", "shapes", "--device", "cpu")
    assert (ran.code, ran.out) == (2, "")
    assert "leave out --device" in ran.err
    monkeypatch.setitem(sys.modules, "rcnn_client", None)
    assert "--url needs rcnn_client, which is missing" in evaluate(data["coco"], *url).err


# -- classes, crowds, faults ---------------------------------------------------------------------------------


def test_a_class_that_the_model_lacks_counts_as_missed(
    here: Evaluated, scenes: list[Scene], tmp_path: Path
) -> None:
    names = tuple("dodo" if name == "circle" else name.upper() for name in LABELS)
    root = write_coco(tmp_path / "data", scenes, names)
    ran = evaluate(root, "--model", "shapes", "--json")
    before = {each["name"].upper(): each for each in here.ran.json["classes"]}
    after = {each["name"]: each for each in ran.json["classes"]}
    objects = before["CIRCLE"]["objects"]
    assert objects > 0
    assert (after["dodo"]["AP"], after["dodo"]["recall"], after["dodo"]["objects"]) == (0, 0, objects)
    assert ran.err == f"rcnn: shapes has no class dodo: its {objects} objects count as missed\n"
    assert ran.json["classes_only_in_data"] == ["dodo"]
    assert ran.json["classes_only_in_model"] == ["circle"]
    assert all(after[name]["AP"] == pytest.approx(before[name]["AP"], abs=1e-6) for name in names[2:])
    assert "circle" not in ran.json["confusion"]["labels"]


def test_no_class_in_common_is_an_error(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes[:1], ("background", *(f"no {name}" for name in LABELS[1:])))
    ran = evaluate(root, "--model", "shapes")
    assert (ran.code, ran.out) == (1, "")
    assert "shapes knows no class of the data, which has no circle" in ran.err


def test_crowds_are_ignored_and_missing_images_left_out(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes[:3], crowd=0)
    (root / "val" / "scene2.png").unlink()
    ran = evaluate(root, "--model", "shapes", "--json", "--results", tmp_path / "results.json")
    counts = ran.json["counts"]
    assert (counts["images"], counts["ignored"]) == (2, 2)
    assert counts["objects"] == sum(len(scene.labels) for scene in scenes[:2]) - 2
    truth = json.loads((tmp_path / "results.truth.json").read_text())
    assert sum(annotation["iscrowd"] for annotation in truth["annotations"]) == 2
    assert "faults of the annotations: 1 missing_image" in ran.err


def test_what_cannot_be_read_or_written_ends_the_run_first(data: dict[str, Path], tmp_path: Path) -> None:
    ran = evaluate(tmp_path, "--model", "shapes")
    assert (ran.code, ran.out) == (1, "")
    assert str(tmp_path) in ran.err
    assert evaluate(tmp_path / "none").code == 2
    (tmp_path / "file").write_text("")
    for option in ("--plots", "--results"):
        ran = evaluate(data["coco"], "--model", "nonesuch", option, tmp_path / "file" / "deep" / "name")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith(f"rcnn: {option} {tmp_path / 'file'}")
    ran = evaluate(data["coco"], "--precision", "fp64")
    assert ran.code == 1
    assert re.search("RCNN_PRECISION.*int8", ran.err)
