"""The cards that the benchmarks serve: any by its name or path, and a heavy one whose weights are random."""

from pathlib import Path

HEAVY = "heavy"  # its name on the command lines
_HEAVY_CARD = """\
name = "random-r50-fpn"
architecture = "resnet50_fpn"
weights = "random:1"
labels = "coco"
score_threshold = 0.5
nms_threshold = 0.5
max_detections = 100
min_size = 800
max_size = 1333
"""


def find(model: str, folder: Path) -> str:
    """The value for RCNN_MODEL: the name itself, or for `heavy` a card that is written into the folder."""
    if model != HEAVY:
        return model
    path = folder / "random-r50-fpn.toml"
    path.write_text(_HEAVY_CARD)
    return str(path)
