"""Fast R-CNN (Girshick 2015): a Faster R-CNN with external proposals in place of the RPN."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.transform import resize_boxes

from models.detections import Detections
from models.lineage.mode import RegionNetwork, Target, require_mode
from models.lineage.selective_search import Boxes
from models.networks.levels import levels_of
from models.ops.roi_align import roi_align
from models.options import Options
from models.pipeline.canvas import Canvas
from models.pipeline.postprocess import Candidates, postprocess


class FastRCNN(RegionNetwork):
    """Faster R-CNN without the RPN: one pass of the backbone, then the RoI heads on the proposals."""

    def forward(
        self, images: list[Tensor], proposals: Sequence[Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        """Losses of the RoI heads; raises ValueError in eval mode.

        Images (3, H, W) RGB in 0..1; proposals (N, 4) and targets' boxes xyxy in each image's pixels.
        """
        require_mode(self.roi_heads, training=True)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, targets = self.transform(images, targets)
        on_canvas = [
            resize_boxes(boxes, old, new)
            for boxes, old, new in zip(proposals, sizes, batch.image_sizes, strict=True)
        ]
        features = levels_of(self.backbone(batch.tensors))
        losses: dict[str, Tensor] = self.roi_heads(features, on_canvas, batch.image_sizes, targets)[1]
        return losses

    @torch.inference_mode()
    def detect(self, canvas: Canvas, proposals: Boxes, options: Options) -> Detections:
        """Detections from proposals (N, 4) xyxy image px, N >= 0; raises ValueError in training mode."""
        require_mode(self.roi_heads, training=False)
        features = self.features(canvas)
        return self.classify(features, to_canvas(proposals, canvas).to(features[0].device), canvas, options)

    def features(self, canvas: Canvas) -> list[Tensor]:
        """The backbone's levels (1, C, h, w) of one canvas."""
        device = next(self.backbone.parameters()).device
        pixels = canvas.pixels.to(device).permute(2, 0, 1)[None]  # channels last in memory, as in the canvas
        return list(levels_of(self.backbone(pixels)).values())

    def classify(
        self, features: Sequence[Tensor], proposals: Tensor, canvas: Canvas, options: Options
    ) -> Detections:
        """Detections from the levels of one canvas and proposals (N, 4) xyxy canvas px."""
        heads = self.roi_heads
        pooled = roi_align(features, [proposals], canvas.key, self.pooling)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        return postprocess(Candidates(proposals, logits, deltas), canvas, options, heads.box_coder)


def to_canvas(boxes: Boxes, canvas: Canvas) -> Tensor:
    """Boxes (N, 4) xyxy from image pixels to canvas pixels: the inverse of `Canvas.to_image`."""
    (height, width), (new_height, new_width) = canvas.image_size, canvas.content
    return torch.from_numpy(boxes) * torch.tensor([new_width / width, new_height / height]).repeat(2)
