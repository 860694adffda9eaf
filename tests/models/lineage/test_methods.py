"""R-CNN and Fast R-CNN: the detections of Faster R-CNN where they must be the same, and training."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.images.decoder import Image
from models.lineage.fast_rcnn import FastRCNN, to_canvas
from models.lineage.rcnn import CONTEXT, MINI_BATCH, RCNN, SIDE, warp
from models.lineage.selective_search import Boxes
from models.networks import build_network
from models.options import Options
from models.pipeline.canvas import Canvas, prepare
from models.pipeline.proposals import Proposer, proposal_config
from models.shapes.scenes import Scene, draw_scene
from tests.models.lineage.conftest import spread_boxes
from tests.support.data.networks import LABELS, random_card, random_network

pytestmark = pytest.mark.network

EVERYTHING = Options(score_threshold=0.0, nms_threshold=1.0, max_detections=10_000)
SIZES = (128, 224)
NO_BOXES = np.zeros((0, 4), np.float32)
Lineage = type[FastRCNN] | type[RCNN]


def own_proposals(network: FasterRCNN, canvas: Canvas) -> Boxes:
    """What the network's own RPN proposes, in image pixels."""
    engine = build_engine(network, EngineChoice(device="cpu"))
    with torch.inference_mode():
        dense = engine.dense(canvas.pixels.permute(2, 0, 1)[None])
        [boxes] = Proposer(proposal_config(network))(dense, canvas.key, [canvas.content])
        return canvas.to_image(boxes).numpy()


@pytest.mark.parametrize(
    "architecture",
    [
        "small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg16", "mobilenet_v3_large_320_fpn")),
    ],
)
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


def test_rcnn_detects_inside_the_image(image: Image) -> None:
    found = RCNN(random_network()).detect(image, spread_boxes(5, image), EVERYTHING)
    assert len(found) == 5 * (len(LABELS) - 1)
    assert np.isfinite(found.scores).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= [image.width, image.height]).all()


def test_rcnn_sees_each_proposal_alone(image: Image) -> None:
    """Detections do not depend on the mini-batch: those of many proposals are those of each alone."""
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


def training_batch(scenes: list[Scene]) -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
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
    batch = training_batch([draw_scene(7, 2), draw_scene(7, 7)])
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
    images, proposals, targets = training_batch([draw_scene(7, 7)])
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
        model(*training_batch([draw_scene(7, 7)]))
    with pytest.raises(ValueError, match=r"in training mode; call eval\(\)"):
        model.train().detect(picture, NO_BOXES, EVERYTHING)
