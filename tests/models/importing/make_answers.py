"""Writes answers/LIBRARY-NAME.json: what detectron2 or mmdetection answers on seeded weights and pictures.

Run where the library is installed: `python -m tests.models.importing.make_answers LIBRARY`. The project's
own tests read the files and need neither library.
"""

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.models.importing.seeded_weights import SIZES, picture, seeded_state

ANSWERS = Path(__file__).parent / "answers"
CLASSES = 5
SIDES = 96, 160  # short and long side of the network's input, px
PROPOSALS = 40
SCORE, MOST = 0.2, 60
CAFFE_SPREAD, SPREAD = 70.0, 1.2  # of pixels of the pictures, with a standard deviation of 1 and ImageNet's

Answer = Callable[[Any], Any]


def write(name: str, config: str, model: Any, spread: float, answer: Answer) -> None:
    """Fill the model with seeded weights, ask it, and write the file."""
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict(seeded_state(shapes, spread))
    answers = {}
    for title in SIZES:
        boxes, scores, classes = answer(np.ascontiguousarray(picture(title)[:, :, ::-1]))
        answers[title] = {"boxes": boxes.tolist(), "scores": scores.tolist(), "classes": classes.tolist()}
        print(name, title, len(scores), [round(score, 3) for score in scores.tolist()[:4]])
    content = {"config": config, "spread": spread, "shapes": shapes, "answers": answers}
    ANSWERS.mkdir(exist_ok=True)
    (ANSWERS / f"{name}.json").write_text(json.dumps(content))


def detectron2() -> None:
    """R50-FPN with one box for all classes and own thresholds, and R50-C4."""
    folder = Path(str(import_module("detectron2").__file__)).parents[1] / "configs" / "COCO-Detection"
    engine, configs = import_module("detectron2.engine"), import_module("detectron2.config")
    for name, changes in (
        ("fpn", ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True, "INPUT.FORMAT", "RGB"]),
        ("c4", []),
    ):
        config = configs.get_cfg()
        config.merge_from_file(str(folder / f"faster_rcnn_R_50_{name.upper()}_3x.yaml"))
        config.merge_from_list([*changes, *_detectron2_changes()])
        predictor = engine.DefaultPredictor(config)
        write(
            f"detectron2-{name}", config.dump(), predictor.model, CAFFE_SPREAD, _detectron2_answer(predictor)
        )


def _detectron2_changes() -> list[Any]:
    short, long = SIDES
    return [
        *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES),
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", SCORE, "TEST.DETECTIONS_PER_IMAGE", MOST),
        *("MODEL.RPN.POST_NMS_TOPK_TEST", PROPOSALS, "MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.45),
        *("INPUT.MIN_SIZE_TEST", short, "INPUT.MAX_SIZE_TEST", long),
    ]


def _detectron2_answer(predictor: Any) -> Answer:
    def answer(pixels: Any) -> Any:
        found = predictor(pixels)["instances"]
        return found.pred_boxes.tensor, found.scores, found.pred_classes

    return answer


def mmdetection() -> None:
    """R50-FPN in the style of PyTorch, and in Caffe's, with padding, scales and thresholds of its own."""
    apis, configs = import_module("mmdet.apis"), import_module("mmengine.config")
    folder = Path(str(import_module("mmdet").__file__)).parent / ".mim" / "configs" / "faster_rcnn"
    for name, file, spread in (
        ("pytorch", "faster-rcnn_r50_fpn_1x_coco", SPREAD),
        ("caffe", "faster-rcnn_r50-caffe_fpn_1x_coco", CAFFE_SPREAD),
    ):
        config = configs.Config.fromfile(str(folder / f"{file}.py"))
        _change_mmdetection(config)
        model = apis.init_detector(config, None, device="cpu")
        write(f"mmdetection-{name}", config.pretty_text, model, spread, _mmdetection_answer(apis, model))


def _change_mmdetection(config: Any) -> None:
    config.model.backbone.init_cfg = None
    config.model.roi_head.bbox_head.num_classes = CLASSES
    config.model.test_cfg.rpn.max_per_img = PROPOSALS
    config.model.test_cfg.rcnn.update({"score_thr": SCORE, "max_per_img": MOST})
    config.test_dataloader.dataset.pipeline[1].scale = SIDES[::-1]
    config.test_pipeline[1].scale = SIDES[::-1]


def _mmdetection_answer(apis: Any, model: Any) -> Answer:
    def answer(pixels: Any) -> Any:
        found = apis.inference_detector(model, pixels).pred_instances
        return found.bboxes, found.scores, found.labels

    return answer


LIBRARIES: Mapping[str, Callable[[], None]] = {"detectron2": detectron2, "mmdetection": mmdetection}

if __name__ == "__main__":
    with torch.inference_mode():
        LIBRARIES[sys.argv[1]]()
