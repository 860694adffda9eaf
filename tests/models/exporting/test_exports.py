"""Whole models as files: they answer as ours do, alone and in batches, at several sizes."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torchvision.models.detection import FasterRCNN

from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.openvino_import import ov
from models.exporting.graph_files import ONNX, OPENVINO
from models.exporting.source import Run, Source, Target
from models.exporting.torchvision_state import TORCH
from models.images.decoder import Image, Pixels
from models.importing.run import ImportSpec, import_checkpoint
from models.networks import build_network
from models.options import Options
from models.shapes.scenes import draw_scene
from models.zoo.configure import configure
from models.zoo.loading import load_network
from models.zoo.sections import SECTIONS, Rpn
from tests.models.importing.seeded_weights import seeded_state
from tests.support.data.networks import matches, random_card, random_network

pytestmark = pytest.mark.network


@dataclass(frozen=True)
class Exported:
    """A model, our detector of it, and the file in its runtime."""

    detector: Detector
    options: Options
    run: Run

    def check(self, *images: Pixels, least: int = 1, share: float = 1.0) -> None:
        """Both find the same, one to one, and at least this many in each image.

        Random weights put pairs of boxes on the edge of a decision of NMS: there a `share` is enough.
        """
        jobs = [Job(self.detector.prepare(Image(pixels, "PNG")), self.options) for pixels in images]
        for found, expected in zip(self.run(images), self.detector.detect(jobs), strict=True):
            assert len(expected) >= least
            assert matches(found, expected) >= share * max(len(found), len(expected))


def exported(source: Source, target: Target, path: Path, score_threshold: float | None = None) -> Exported:
    card = source.card
    least = card.score_threshold if score_threshold is None else score_threshold
    options = Options(least, card.nms_threshold, card.max_detections)
    target.write(source, options, path)
    engine = build_engine(source.network, EngineChoice(device="cpu", engine="torch", precision="fp32"))
    return Exported(Detector(source.network, card, engine), options, target.run(source, options, path))


def scenes(height: int, width: int, count: int = 1) -> list[Pixels]:
    """Drawn scenes, repeated and cut to that size."""
    drawn = [np.tile(draw_scene(5, k).pixels, (8, 8, 1)) for k in range(count)]
    return [np.ascontiguousarray(pixels[:height, :width]) for pixels in drawn]


@pytest.fixture(scope="module")
def shapes() -> Source:
    loaded = load_network("shapes", None, Path())
    return Source(loaded.network, loaded.card, "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(scope="module")
def in_onnx(shapes: Source, folder: Path) -> Exported:
    return exported(shapes, ONNX, folder / "shapes.onnx")


@pytest.fixture(scope="module")
def in_openvino(shapes: Source, folder: Path) -> Exported:
    return exported(shapes, OPENVINO, folder / "shapes.xml")


@pytest.mark.parametrize("name", ["in_onnx", "in_openvino"])
def test_the_file_finds_what_we_find(name: str, request: pytest.FixtureRequest) -> None:
    """Three images at once, a small and narrow one, and a large one in portrait."""
    model: Exported = request.getfixturevalue(name)
    model.check(*scenes(295, 481, 3))
    model.check(*scenes(97, 261))
    model.check(*scenes(700, 500))


@pytest.mark.parametrize("name", ["in_onnx", "in_openvino"])
def test_an_image_without_objects_is_all_padding(name: str, request: pytest.FixtureRequest) -> None:
    model: Exported = request.getfixturevalue(name)
    blank = np.full((295, 481, 3), 128, np.uint8)
    assert [len(found) for found in model.run([blank])] == [0]
    empty, full = model.run([blank, *scenes(295, 481)])
    assert len(empty) == 0 < len(full)


@pytest.mark.usefixtures("in_onnx")
def test_the_file_says_what_it_is(shapes: Source, folder: Path) -> None:
    model = onnx.load(folder / "shapes.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["labels"]) == list(shapes.card.labels)
    assert json.loads(said["preprocessing"])["min_size"] == shapes.card.min_size
    assert [domain.domain for domain in model.opset_import] == [""]  # standard operators
    assert {node.domain for node in model.graph.node} == {""}
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["boxes", "labels", "scores"]


LIKE_DETECTRON2 = {
    "preprocessing": {"mean": (103.5, 116.3, 123.7), "std": (57.4, 57.1, 58.4), "channels": "bgr", "scale": 1}
    | {"resize": "pillow", "pad_to": 1},
    "anchors": {"strides": (8.0, 16.0, 32.0, 64.0), "rounded": False, "order": "size"},
    "rpn": {"pre_nms": 300, "post_nms": 200, "min_size": 1e-6, "rank_by": "logits"},
    "head": {"sampling_ratio": 0, "aligned": True, "empty_boxes": "drop_last", "class_agnostic": True},
}
LIKE_MMDETECTION = {
    "preprocessing": {"resize": "opencv"},
    "anchors": {"sizes": ((32.0,), (64.0,), (128.0,), (256.0,)), "offset": 0.5},
    "rpn": {"clamp": "both", "rank_by": "scores", "score_threshold": 0.01},
    "head": {"sampling_ratio": 0, "aligned": True, "empty_boxes": "keep", "clamp": "both"}
    | {"box_weights": (8.0, 8.0, 4.0, 4.0)},
}


@pytest.mark.parametrize(
    "sections",
    [LIKE_DETECTRON2, LIKE_MMDETECTION, {"head": {"voting_iou": 0.7}}],
    ids=["detectron2", "mmdetection", "voting"],
)
def test_every_section_of_a_card_is_in_the_graph(sections: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    plain = random_card(min_size=96, max_size=160)
    parts = {name: SECTIONS[name](**values) for name, values in sections.items()}
    card = plain.model_copy(update={"max_detections": 60, "score_threshold": 0.32, **parts})
    torch.manual_seed(3)
    network = configure(build_network("small", len(card.labels)), card).eval()
    model = exported(Source(spread(network), card, "1"), ONNX, tmp_path / "model.onnx")
    for height, width in ((75, 110), (300, 211)):
        model.check(*scenes(height, width, 2), least=10, share=0.98)


def test_an_imported_checkpoint_is_exported(tmp_path: Path) -> None:
    arguments = argparse.Namespace(min_size=128, max_size=224)
    torch.save({"model": random_network().state_dict(), "args": arguments}, tmp_path / "model.pth")
    spec = ImportSpec(tmp_path / "model.pth", tmp_path, labels="one,two,three,four")
    card = import_checkpoint(spec, Image(scenes(60, 80)[0], "PNG")).card
    loaded = load_network(str(card.path), None, tmp_path)
    model = exported(Source(loaded.network, loaded.card, "1"), ONNX, tmp_path / "model.onnx", 0.3)
    model.check(*scenes(150, 211), least=10, share=0.98)


@pytest.mark.usefixtures("in_openvino")
def test_the_ir_says_what_it_is(shapes: Source, folder: Path) -> None:
    model = ov.Core().read_model(folder / "shapes.xml")
    labels = model.get_rt_info(["model_info", "labels"]).astype(str)
    assert json.loads(labels) == list(shapes.card.labels)
    assert model.input("images").get_partial_shape().to_string() == "[?,?,?,3]"
    assert [output.get_any_name() for output in model.outputs] == ["boxes", "labels", "scores"]


def spread(network: FasterRCNN) -> FasterRCNN:
    """The network with class scores that differ, so that it finds objects."""
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(40)
    return network


def test_a_state_of_torchvision_answers_in_torchvision(tmp_path: Path) -> None:
    card = random_card("mobilenet_v3_large_320_fpn", 160, 240)
    torch.manual_seed(3)
    network = spread(build_network(card.architecture, len(card.labels))).eval()
    model = exported(Source(network, card, "1"), TORCH, tmp_path / "model.pth", 0.15)
    model.check(*scenes(120, 170, 2), share=0.98)


@pytest.mark.slow
def test_a_resnet_50_is_exported(tmp_path: Path) -> None:
    plain = random_card("resnet50_fpn", 160, 240)
    card = plain.model_copy(update={"rpn": Rpn(post_nms=100)})
    network = configure(build_network(card.architecture, len(card.labels)), card).eval()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    state = seeded_state(shapes, 1.0)
    for name in state:
        if "fpn.layer_blocks" in name:  # keeps the RPN's and the head's inputs of order one
            state[name] *= 0.1
    network.load_state_dict(state)
    model = exported(Source(network, card, "1"), ONNX, tmp_path / "model.onnx", 0.26)
    model.check(*scenes(120, 170), least=10, share=0.98)
