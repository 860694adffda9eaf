"""The formats of `rcnn captures export`; the images are in the folder `images` of each."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from app.captures.files import Capture
from app.commands.detect.output_files import join_coco, join_tasks
from app.schemas.exports import Subject, to_labelstudio, to_yolo
from models.detections import Detections

Captures = Sequence[Capture]
LOCAL_FILES = "/data/local-files/?d=images/"
"""Address of an image in Label Studio, where the export is below LOCAL_FILES_DOCUMENT_ROOT."""


def _write_coco(out: Path, captures: Captures) -> None:
    """As CVAT's COCO 1.0, which most tools read."""
    folder = out / "annotations"
    folder.mkdir()
    document = join_coco([capture.coco for capture in captures])
    (folder / "instances_default.json").write_text(_json(document), encoding="utf-8")


def _write_yolo(out: Path, captures: Captures) -> None:
    folder = out / "labels"
    folder.mkdir()
    for capture in captures:
        detections, subject = _read(capture)
        text = to_yolo(detections, subject)
        (folder / capture.file).with_suffix(".txt").write_text(text, encoding="utf-8", newline="")
    names = _json([category["name"] for category in captures[0].coco["categories"]])  # JSON is YAML
    (out / "data.yaml").write_text(f"path: .\ntrain: images\nnames: {names}\n", encoding="utf-8")


def _write_labelstudio(out: Path, captures: Captures) -> None:
    tasks = [json.loads(to_labelstudio(*_read(capture, LOCAL_FILES))) for capture in captures]
    (out / "tasks.json").write_text(_json(join_tasks(tasks)), encoding="utf-8")


def _write_cvat(out: Path, captures: Captures) -> None:
    """CVAT for images 1.1."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, capture in enumerate(captures):
        _add_cvat_image(root, number, capture)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(out / "annotations.xml", encoding="utf-8", xml_declaration=True)


def _add_cvat_image(root: ElementTree.Element, number: int, capture: Capture) -> None:
    [image] = capture.coco["images"]
    sizes = {name: str(image[name]) for name in ("width", "height")}
    node = ElementTree.SubElement(
        root, "image", {"id": str(number), "name": f"images/{capture.file}"} | sizes
    )
    names = _names(capture)
    for annotation in capture.coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + width, y + height), strict=True))
        attributes = {name: f"{value:.2f}" for name, value in corners.items()}
        label = {"label": names[annotation["category_id"]], "occluded": "0", "source": "auto"}
        ElementTree.SubElement(node, "box", label | attributes)


FORMATS: dict[str, Callable[[Path, Captures], None]] = {
    "coco": _write_coco,
    "cvat": _write_cvat,
    "labelstudio": _write_labelstudio,
    "yolo": _write_yolo,
}
"""Writers by the name of the format; each may raise OSError."""


def _read(capture: Capture, folder: str = "") -> tuple[Detections, Subject]:
    """The detections of a capture as `app.schemas.exports` takes them."""
    [image], found = capture.coco["images"], capture.coco["annotations"]
    boxes = np.array([annotation["bbox"] for annotation in found], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([annotation["category_id"] for annotation in found], np.int64)
    scores = np.array([annotation["score"] for annotation in found], np.float32)
    subject = Subject(
        folder + capture.file, (image["width"], image["height"]), capture.model, _names(capture)
    )
    return Detections(boxes, labels, scores), subject


def _names(capture: Capture) -> dict[int, str]:
    return {category["id"]: category["name"] for category in capture.coco["categories"]}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
