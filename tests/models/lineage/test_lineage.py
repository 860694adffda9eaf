"""R-CNN and Fast R-CNN beside Faster R-CNN: the same answers where they must be, learning, and the timing."""

import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.ops import box_iou

from app import cli
from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.images.decoder import Image
from models.lineage import timing
from models.lineage.fast_rcnn import FastRCNN, to_canvas
from models.lineage.rcnn import CONTEXT, MINI_BATCH, RCNN, SIDE, warp
from models.lineage.selective_search import Boxes, selective_search
from models.networks import build_network
from models.options import Options
from models.pipeline.canvas import Canvas, prepare
from models.pipeline.proposals import Proposer, proposal_config
from models.shapes.scenes import Scene, draw_scene
from tests.support.networks import LABELS, random_card, random_network

EVERYTHING = Options(score_threshold=0.0, nms_threshold=1.0, max_detections=10_000)
SIZES = (128, 224)
NO_BOXES = np.zeros((0, 4), np.float32)
Lineage = type[FastRCNN] | type[RCNN]


def spread_boxes(number: int, image: Image) -> Boxes:
    rng = np.random.default_rng(number)
    corners = rng.uniform(0, 1, (2, number, 2)) * [image.width, image.height]
    return np.concatenate([corners.min(0), corners.max(0) + 1], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def image() -> Image:
    return Image(draw_scene(7, 0).pixels[:240, :320].copy(), "PNG")


# -- Selective Search ----------------------------------------------------------------------------------------


def test_selective_search_finds_the_shapes() -> None:
    found = objects = 0
    for index in (3, 9, 7):
        scene = draw_scene(11, index)
        boxes = selective_search(scene.pixels, 2000)
        height, width = scene.pixels.shape[:2]
        assert boxes.dtype == np.float32
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= np.array([width, height]) + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        best = box_iou(torch.from_numpy(scene.boxes), torch.from_numpy(boxes)).max(1).values
        found, objects = found + int((best >= 0.5).sum()), objects + len(best)
    assert objects > 15
    assert found >= 0.95 * objects


def test_selective_search_answers_the_same_again(image: Image) -> None:
    first = selective_search(image.pixels, 2000)
    assert len(first) > 50
    assert (selective_search(image.pixels, 2000) == first).all()
    assert (selective_search(image.pixels, 30) == first[:30]).all()


def test_the_first_proposals_are_large_and_small_ones(image: Image) -> None:
    """The order is that of the hierarchy at random: a cut keeps some of each size."""
    boxes = selective_search(image.pixels, 40)
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    assert sides.max() > 200
    assert sides.min() < 40


@pytest.mark.parametrize("shape", [(1, 1), (2, 90), (90, 2)])
def test_selective_search_bears_slivers(shape: tuple[int, int]) -> None:
    boxes = selective_search(np.zeros((*shape, 3), np.uint8), 10)
    assert boxes.tolist() == [[0, 0, shape[1], shape[0]]]


# -- the same answers ----------------------------------------------------------------------------------------


def own_proposals(network: FasterRCNN, canvas: Canvas) -> Boxes:
    """What the network's own RPN proposes, in image pixels."""
    engine = build_engine(network, EngineChoice(device="cpu"))
    with torch.inference_mode():
        dense = engine.dense(canvas.pixels.permute(2, 0, 1)[None])
        [boxes] = Proposer(proposal_config(network))(dense, canvas.key, [canvas.content])
        return canvas.to_image(boxes).numpy()


@pytest.mark.parametrize("architecture", ["small", "vgg16", "mobilenet_v3_large_320_fpn"])
def test_fast_rcnn_on_the_rpns_proposals_is_faster_rcnn(architecture: str, image: Image) -> None:
    torch.manual_seed(3)
    network = build_network(architecture, len(LABELS)).eval()
    card = random_card(architecture, *SIZES)
    detector = Detector(network, card, build_engine(network, EngineChoice(device="cpu")))
    canvas = prepare(image, *SIZES)
    options = Options(score_threshold=0.1, nms_threshold=0.5, max_detections=100)
    [expected] = detector.detect([Job(canvas, options)])
    found = FastRCNN(network).detect(canvas, own_proposals(network, canvas), options)
    assert len(expected) > 20
    assert found.labels.tolist() == expected.labels.tolist()
    assert np.abs(found.scores - expected.scores).max() < 1e-3
    assert np.abs(found.boxes - expected.boxes).max() < 1e-3


def test_boxes_go_to_the_canvas_and_back(image: Image) -> None:
    canvas = prepare(image, 100, 111)
    boxes = spread_boxes(9, image)
    there = to_canvas(boxes, canvas)
    assert not np.allclose(there.numpy(), boxes)
    assert np.allclose(canvas.to_image(there).numpy(), boxes, atol=1e-4)


def test_rcnn_answers_inside_the_image(image: Image) -> None:
    found = RCNN(random_network()).detect(image, spread_boxes(5, image), EVERYTHING)
    assert len(found) == 5 * (len(LABELS) - 1)
    assert np.isfinite(found.scores).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= [image.width, image.height]).all()


def test_rcnn_sees_each_proposal_alone(image: Image) -> None:
    """Answers do not depend on the mini-batch: more proposals than one holds are those of each by itself."""
    rcnn, boxes = RCNN(random_network(1.0)), spread_boxes(MINI_BATCH + 3, image)
    together = rcnn.detect(image, boxes, EVERYTHING)
    picked = [0, MINI_BATCH - 1, MINI_BATCH, MINI_BATCH + 2]
    rows = {row_of(together, box) for k in picked for box in rcnn.detect(image, boxes[[k]], EVERYTHING).boxes}
    assert len(rows) == len(picked) * (len(LABELS) - 1)


def row_of(detections: Detections, box: Boxes) -> int:
    distance = np.abs(detections.boxes - box).max(1)
    assert distance.min() < 0.01
    return int(distance.argmin())


def test_no_proposals_give_no_detections(image: Image) -> None:
    network = random_network()
    assert len(RCNN(network).detect(image, NO_BOXES, EVERYTHING)) == 0
    assert len(FastRCNN(network).detect(prepare(image, *SIZES), NO_BOXES, EVERYTHING)) == 0


def test_a_warped_proposal_fills_the_crop_but_for_its_context() -> None:
    """On pixels that say where they lie: the box's edges come CONTEXT px into the crop, outside is 0."""
    places = torch.arange(100.0) + 0.5  # a pixel's centre
    pixels = torch.stack([places.expand(80, 100), places[:80, None].expand(80, 100), torch.ones(80, 100)])
    [inner, corner] = warp(pixels, torch.tensor([[30.0, 20, 70, 50], [0, 0, 40, 20]]))
    assert inner.shape == (3, SIDE, SIDE)
    for axis, start, end in ((inner[0, 0], 30, 70), (inner[1, :, 0], 20, 50)):
        edges = (axis[CONTEXT - 1 : CONTEXT + 1].mean(), axis[-CONTEXT - 1 : -CONTEXT + 1].mean())
        assert edges == pytest.approx((start, end), abs=0.01)
        assert torch.diff(axis).numpy() == pytest.approx((end - start) / (SIDE - 2 * CONTEXT), abs=1e-3)
    assert corner[2, CONTEXT:, CONTEXT:].numpy() == pytest.approx(1.0)
    assert (corner[:, :6, :] == 0).all()
    assert (corner[:, :, :6] == 0).all()


# -- learning ------------------------------------------------------------------------------------------------


def teach(scenes: list[Scene]) -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
    """Images, proposals around the true boxes and elsewhere, and targets."""
    images, proposals, targets = [], [], []
    for scene in scenes:
        image = Image(scene.pixels, "PNG")
        boxes = torch.from_numpy(scene.boxes)
        images.append(torch.from_numpy(scene.pixels.copy()).permute(2, 0, 1) / 255)
        proposals.append(torch.cat([boxes + 2, torch.from_numpy(spread_boxes(6, image))]))
        targets.append({"boxes": boxes, "labels": torch.from_numpy(scene.labels) % (len(LABELS) - 1) + 1})
    return images, proposals, targets


@pytest.mark.parametrize("kind", [FastRCNN, RCNN])
def test_one_step_lowers_the_loss(kind: Lineage) -> None:
    torch.manual_seed(1)
    model = kind(build_network("small", len(LABELS))).train()
    batch = teach([draw_scene(7, 2), draw_scene(7, 7)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)

    def loss() -> Tensor:
        torch.manual_seed(0)  # the same sample of the proposals
        parts = model(*batch)
        assert set(parts) == {"loss_classifier", "loss_box_reg"}
        assert all(part.item() > 0 for part in parts.values())
        return torch.stack(list(parts.values())).sum()

    before = loss()
    before.backward()
    assert all(part.grad is not None for part in (*model.roi_heads.parameters(), next(model.parameters())))
    optimizer.step()
    assert loss().item() < before.item()


def test_proposals_are_learnt_from_at_the_networks_scale() -> None:
    """The losses are those of the RoI heads on images and boxes at half the size, scaled by hand."""
    torch.manual_seed(1)
    network = build_network("small", len(LABELS)).train()
    network.transform.min_size, network.transform.max_size = (128,), 128
    images, proposals, targets = teach([draw_scene(7, 7)])
    images = [images[0][:, :256, :256]]
    fast = FastRCNN(network)
    torch.manual_seed(0)
    losses = fast(images, proposals, targets)
    canvas = network.transform(images)[0].tensors
    assert canvas.shape[-2:] == (128, 128)
    halved = [{"boxes": targets[0]["boxes"] / 2, "labels": targets[0]["labels"]}]
    torch.manual_seed(0)
    _, expected = network.roi_heads(network.backbone(canvas), [proposals[0] / 2], [(128, 128)], halved)
    for name, part in losses.items():
        assert part.item() == pytest.approx(expected[name].item(), abs=1e-5)


@pytest.mark.parametrize("kind", [FastRCNN, RCNN])
def test_the_wrong_mode_is_refused(kind: Lineage, image: Image) -> None:
    model = kind(random_network())
    picture = image if isinstance(model, RCNN) else prepare(image, *SIZES)
    with pytest.raises(ValueError, match=r"in eval mode; call train\(\)"):
        model(*teach([draw_scene(7, 7)]))
    with pytest.raises(ValueError, match=r"in training mode; call eval\(\)"):
        model.train().detect(picture, NO_BOXES, EVERYTHING)


# -- rcnn bench lineage --------------------------------------------------------------------------------------

Rcnn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rcnn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rcnn:
    """Call `rcnn bench lineage` with these arguments: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rcnn", "bench", "lineage", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def folder(tmp_path: Path, image: Image) -> Path:
    for name in ("a.png", "b.png"):
        pillow.fromarray(image.pixels).save(tmp_path / name)
    return tmp_path


def test_each_method_is_slower_than_its_successor(rcnn: Rcnn, folder: Path) -> None:
    code, out, err = rcnn("--images", folder, "--proposals", 60, "--crops", 16, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["images"], told["searched"], told["crops"]) == (2, 60, 16)
    assert told["ratios"]["rcnn"] > told["ratios"]["fast_rcnn"]
    assert told["ratios"]["faster_rcnn"] == 1
    assert told["rcnn"]["proposals"] == told["fast_rcnn"]["proposals"] > told["faster_rcnn"]["proposals"] > 0
    assert told["rcnn"]["network"] > told["fast_rcnn"]["network"]


def test_the_table_stands_beside_the_published_times(rcnn: Rcnn) -> None:
    code, out, err = rcnn("--count", 1, "--proposals", 20, "--crops", 4)
    assert code == 0, err
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in out.splitlines() if "│" in line}
    published = {name: (cells[-2].strip(), cells[-1].strip()) for name, cells in rows.items()}
    assert published == {
        "R-CNN": ("47 +", "237.4"),
        "Fast R-CNN": ("2", "9.2"),
        "Faster R-CNN": ("0.2", "1.0"),
    }
    assert "timed on 4 of them and scaled up to all" in out
    assert "Weights are random" in out


def test_rcnns_time_is_scaled_from_its_sample(monkeypatch: pytest.MonkeyPatch, image: Image) -> None:
    """By a clock on which each look takes a second."""
    times = timing.time_lineage([image], timing.Plan(proposals=40, crops=8, device="cpu"))
    ticks = count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    [one] = times
    assert (one.searched, one.crops) == (40, 8)
    assert one.rcnn == timing.Seconds(proposals=1, network=5)
    assert one.fast_rcnn == timing.Seconds(proposals=1, network=1)
    assert one.faster_rcnn == timing.Seconds(proposals=1, network=2)


@pytest.mark.parametrize("module", ["cv2", "cv2.ximgproc"])
def test_without_opencvs_contrib_part_it_says_what_to_install(
    rcnn: Rcnn, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(module)] or [module]:
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = rcnn("--count", 1)
    assert code == 1
    assert "pip install 'rcnn-serve[lineage]'" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--architecture", "resnet9000"],
            "--architecture: unknown architecture 'resnet9000'; choose one of",
        ),
        (["--device", "cuda:99"], "--device: device 'cuda:99' does not exist"),
        (["--images", "EMPTY"], "no image in"),
        (["--images", "missing"], "missing"),
        (["--crops", "0"], "--crops"),
    ],
)
def test_what_cannot_be_meant_is_refused(rcnn: Rcnn, tmp_path: Path, arguments: list[str], told: str) -> None:
    code, _, err = rcnn(*(str(tmp_path) if each == "EMPTY" else each for each in arguments))
    assert code == 2
    assert told in err


def test_a_damaged_image_is_named(rcnn: Rcnn, folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no image")
    code, _, err = rcnn("--images", folder)
    assert code == 1
    assert "a.png: the data is not an image" in err
