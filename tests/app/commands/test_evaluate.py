"""`rcnn evaluate`: three formats, here and through a real server, against pycocotools on the saved files."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from PIL import Image as pillow
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from app import cli
from models.evaluation.coco import NUMBERS, RECALLS
from models.shapes.scenes import LABELS, Scene, draw_large_scene, draw_scene
from tests.support.process import Program
from tests.support.served import ROOT

COUNT, SEED = 8, 2
FORMATS = ("coco", "voc", "yolo")
SERVE = (sys.executable, "-c", "from app.cli import main; main()", "serve", "--model", "shapes")


@dataclass(frozen=True)
class Ran:
    """What a call of `rcnn evaluate` left: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.out))


def evaluate(*arguments: object, **settings: str) -> Ran:
    """`rcnn evaluate` with these arguments, and these settings in its environment."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RCNN_")]:
            patch.delenv(name)
        for name, value in ({"inference_threads": "1"} | settings).items():
            patch.setenv(f"RCNN_{name}".upper(), value)
        patch.setattr(sys, "argv", ["rcnn", "evaluate", *(str(argument) for argument in arguments)])
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())


# -- the same scenes in three formats ------------------------------------------------------------------------


def write_images(folder: Path, scenes: list[Scene]) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"scene{number}.png" for number in range(len(scenes))]
    for file, scene in zip(files, scenes, strict=True):
        pillow.fromarray(scene.pixels).save(file)
    return files


def write_coco(root: Path, scenes: list[Scene], names: tuple[str, ...] = LABELS, crowd: int = -1) -> Path:
    """COCO's layout, with ids that have gaps; object `crowd` of each image is one."""
    files = write_images(root / "val", scenes)
    images, annotations = [], []
    for number, (file, scene) in enumerate(zip(files, scenes, strict=True)):
        height, width = scene.pixels.shape[:2]
        images.append({"id": 10 * number + 7, "file_name": file.name, "width": width, "height": height})
        for index, (box, label) in enumerate(zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)):
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 * number + 7,
                    "category_id": 3 * label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(index == crowd),
                }
            )
    categories = [{"id": 3 * label, "name": name} for label, name in enumerate(names) if label]
    (root / "annotations").mkdir()
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return root


def write_voc(root: Path, scenes: list[Scene]) -> Path:
    files = write_images(root / "JPEGImages", scenes)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for file, scene in zip(files, scenes, strict=True):
        height, width = scene.pixels.shape[:2]
        annotation = ElementTree.Element("annotation")
        ElementTree.SubElement(annotation, "filename").text = file.name
        size = ElementTree.SubElement(annotation, "size")
        for name, value in (("width", width), ("height", height), ("depth", 3)):
            ElementTree.SubElement(size, name).text = str(value)
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            thing = ElementTree.SubElement(annotation, "object")
            ElementTree.SubElement(thing, "name").text = LABELS[label]
            corners = ElementTree.SubElement(thing, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ElementTree.SubElement(corners, name).text = f"{value:g}"
        ElementTree.ElementTree(annotation).write(root / "Annotations" / f"{file.stem}.xml")
    (root / "ImageSets" / "Main" / "val.txt").write_text("\n".join(file.stem for file in files))
    return root


def write_yolo(root: Path, scenes: list[Scene]) -> Path:
    files = write_images(root / "images" / "val", scenes)
    (root / "labels" / "val").mkdir(parents=True)
    for file, scene in zip(files, scenes, strict=True):
        height, width = scene.pixels.shape[:2]
        lines = [
            f"{label - 1} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r} "
            f"{(x2 - x1) / width!r} {(y2 - y1) / height!r}"
            for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
        ]
        (root / "labels" / "val" / f"{file.stem}.txt").write_text("\n".join(lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(LABELS[1:]))
    (root / "data.yaml").write_text(f"path: .\nval: images/val\nnames:\n{names}")
    return root


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
    per_class = {one["name"]: one for one in here.ran.json["classes"]}
    for index, category in enumerate(truth.dataset["categories"]):
        precision = run.eval["precision"][:, :, index, 0, -1]
        assert per_class[category["name"]]["AP"] == pytest.approx(precision.mean(), abs=1e-6)
        assert per_class[category["name"]]["AP50"] == pytest.approx(precision[0].mean(), abs=1e-6)


@pytest.mark.parametrize("flags", [(), ("--format",)], ids=["found out", "told"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same(
    here: Evaluated, data: dict[str, Path], format: str, flags: tuple[str, ...]
) -> None:
    named = [*flags, format] if flags else []
    answer = evaluate(data[format], "--model", "shapes", "--split", "val", "--json", *named).json
    assert answer["data"]["format"] == format
    assert answer["numbers"] == pytest.approx(here.numbers, abs=1e-6)
    assert answer["counts"] == here.ran.json["counts"]


def test_everything_is_one_json_object(here: Evaluated, scenes: list[Scene]) -> None:
    answer = here.ran.json
    objects = sum(len(scene.labels) for scene in scenes)
    assert answer["counts"]["images"] == COUNT
    assert answer["counts"]["objects"] == sum(answer["counts"]["objects_by_size"].values()) == objects
    assert sum(one["objects"] for one in answer["classes"]) == objects
    assert answer["asked"] == {"score_threshold": 0.05, "nms_threshold": 0.5, "max_detections": 100}
    model = answer["model"]
    assert (model["name"], model["engine"], model["precision"], model["device"], model["url"]) == (
        "shapes",
        "openvino",
        "fp32",
        "cpu",
        None,
    )
    matrix = answer["confusion"]["matrix"]
    assert answer["confusion"]["labels"] == list(LABELS)
    assert sum(map(sum, matrix[1:])) == objects, "every object is in one cell of its row"
    for label, one in enumerate(answer["classes"], start=1):
        assert len(one["precision_at_recall"]) == 101
        assert sum(matrix[label]) == one["objects"]
        assert one["recall"] * one["objects"] >= matrix[label][label] - 1e-6
    assert answer["warnings"] == []
    assert here.ran.err == ""
    assert answer["seconds"]["per_image"] == pytest.approx(answer["seconds"]["total"] / COUNT)


def test_pictures_are_drawn(here: Evaluated) -> None:
    assert sorted(path.name for path in here.plots.iterdir()) == [
        "confusion_matrix.png",
        "precision_recall.png",
    ]
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
    for one in here.ran.json["classes"]:
        assert rows[one["name"]][:3] == [str(one["objects"]), f"{one['AP']:.3f}", f"{one['AP50']:.3f}"]
    assert f"written: {tmp_path / 'confusion_matrix.png'}" in ran.out


# -- through a service ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """The real program with the bundled model, and a key; its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RCNN_")}
    environment |= {"RCNN_INFERENCE_THREADS": "1", "RCNN_API_KEYS": "secret", "RCNN_PORT": "0"}
    process = subprocess.Popen(SERVE, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if re.search(r"\bready\b", line):
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(120), "".join(lines)
        port = re.search(r"listening on http://[\d.]+:(\d+)", "".join(lines))
        assert port, "".join(lines)
        yield f"http://127.0.0.1:{port[1]}"
    finally:
        process.terminate()
        process.wait(30)
        reader.join(30)
        assert process.stderr is not None
        process.stderr.close()


def test_a_service_scores_as_its_model_does_here(
    here: Evaluated, data: dict[str, Path], service: str, tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    flags = ("--url", service, "--api-key", "secret", "--split", "val", "--json", "--results", results)
    there = evaluate(data["coco"], *flags)
    assert (there.code, there.err) == (0, "")
    assert there.json["numbers"] == pytest.approx(here.numbers, abs=1e-6)
    for one, other in zip(there.json["classes"], here.ran.json["classes"], strict=True):
        assert (one.pop("name"), one.pop("objects")) == (other["name"], other["objects"])
        for key, value in one.items():
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
    assert (tiled.code, there.code) == (0, 0), tiled.err + there.err
    assert tiled.json["numbers"]["AP_small"] > whole.json["numbers"]["AP_small"] + 0.1
    assert there.json["numbers"] == pytest.approx(tiled.json["numbers"], abs=1e-6)
    many = evaluate(data, "--model", "shapes", "--tile", "64", *flags)
    assert many.code == 1
    assert "at most 64 may" in many.err
    wrong = evaluate(data, "--tile", "12")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--tile 12: it must be auto or a whole number from 64 to 8192" in wrong.err


def test_a_service_needs_its_key(data: dict[str, Path], service: str) -> None:
    ran = evaluate(data["coco"], "--url", service)
    assert (ran.code, ran.out) == (1, "")
    assert "(401 unauthorized)" in ran.err


def test_what_is_wrong_with_one_image_is_told_and_counts(program: Program, tmp_path: Path) -> None:
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


def test_nobody_at_the_url(data: dict[str, Path]) -> None:
    ran = evaluate(data["coco"], "--url", "http://127.0.0.1:9")
    assert (ran.code, ran.out) == (1, "")
    assert "is the service running there?" in ran.err
    assert evaluate(data["coco"], "--url", "127.0.0.1:8000").code == 2


def test_a_service_brings_its_own_model(data: dict[str, Path]) -> None:
    ran = evaluate(data["coco"], "--url", "http://127.0.0.1:9", "--model", "shapes", "--device", "cpu")
    assert (ran.code, ran.out) == (2, "")
    assert "leave out --model, --device" in ran.err


# -- classes, crowds, faults ---------------------------------------------------------------------------------


def test_a_class_that_the_model_lacks_counts_as_missed(
    here: Evaluated, scenes: list[Scene], tmp_path: Path
) -> None:
    names = tuple("dodo" if name == "circle" else name.upper() for name in LABELS)
    root = write_coco(tmp_path / "data", scenes, names)
    ran = evaluate(root, "--model", "shapes", "--json")
    before = {one["name"].upper(): one for one in here.ran.json["classes"]}
    after = {one["name"]: one for one in ran.json["classes"]}
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


def test_crowds_are_ignored_objects(here: Evaluated, scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes, crowd=0)
    results = tmp_path / "results.json"
    counts = evaluate(root, "--model", "shapes", "--json", "--results", results).json["counts"]
    crowds = sum(len(scene.labels) > 0 for scene in scenes)
    assert counts["ignored"] == crowds
    assert counts["objects"] == here.ran.json["counts"]["objects"] - crowds
    truth = json.loads((tmp_path / "results.truth.json").read_text())
    assert sum(annotation["iscrowd"] for annotation in truth["annotations"]) == crowds


def test_faults_of_the_annotations_are_told(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes[:2])
    (root / "val" / "scene1.png").unlink()
    ran = evaluate(root, "--model", "shapes", "--json")
    assert ran.json["counts"]["images"] == 1
    assert "faults of the annotations: 1 missing_image" in ran.err


def test_data_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    ran = evaluate(tmp_path, "--model", "shapes")
    assert (ran.code, ran.out) == (1, "")
    assert str(tmp_path) in ran.err
    assert evaluate(tmp_path / "none").code == 2


@pytest.mark.parametrize("option", ["--plots", "--results"])
def test_a_place_that_cannot_be_written_is_told_first(
    data: dict[str, Path], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("")
    ran = evaluate(data["coco"], "--model", "nonesuch", option, tmp_path / "file" / "deep" / "name")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"rcnn: {option} {tmp_path / 'file'}")


def test_a_plain_install_is_told_what_is_missing(
    data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = evaluate(data["coco"], "--model", "shapes")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "rcnn: matplotlib is missing; install it with: pip install 'rcnn-serve[train]'\n"


def test_a_setting_that_is_none_is_told(data: dict[str, Path]) -> None:
    ran = evaluate(data["coco"], "--precision", "fp64")
    assert ran.code == 1
    assert "RCNN_PRECISION" in ran.err
    assert "int8" in ran.err
