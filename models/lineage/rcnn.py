"""R-CNN (Girshick et al. 2014): each proposal is cut out, warped to one size and seen by the network alone.

As published but for what came after it in the head: a softmax instead of one SVM a class, trained together
with the boxes by the loss of Fast R-CNN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import roi_align as torchvision_roi_align

from models.detections import Detections
from models.images.decoder import Image
from models.lineage.mode import RegionNetwork, Target, require_mode
from models.lineage.selective_search import Boxes
from models.networks.levels import levels_of
from models.ops.roi_align import roi_align
from models.options import Options
from models.pipeline.canvas import Canvas, prepare
from models.pipeline.postprocess import Candidates, postprocess

SIDE = 224  # px of a warped proposal: what VGG-16 and the ResNets were made for; R-CNN's AlexNet took 227
CONTEXT = 16  # px of the warped proposal's surroundings on each side (appendix A)
MINI_BATCH = 32  # crops, which bounds the memory


class RCNN(RegionNetwork):
    """The whole network on one crop per proposal."""

    def forward(
        self, images: list[Tensor], proposals: Sequence[Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        """Losses on a sample of the proposals and the true boxes; raises ValueError in eval mode.

        Images (3, H, W) RGB in 0..1; proposals (N, 4) and targets' boxes xyxy in each image's pixels.
        """
        require_mode(self.roi_heads, training=True)
        sampled, _, labels, box_targets = self.roi_heads.select_training_samples(list(proposals), targets)
        normalised = [self.transform.normalize(image) for image in images]
        crops = torch.cat([warp(image, boxes) for image, boxes in zip(normalised, sampled, strict=True)])
        logits, deltas = self._classify(crops)
        class_loss, box_loss = fastrcnn_loss(logits, deltas, labels, box_targets)
        return {"loss_classifier": class_loss, "loss_box_reg": box_loss}

    @torch.inference_mode()
    def detect(self, image: Image, proposals: Boxes, options: Options) -> Detections:
        """Detections from proposals (N, 4) xyxy image px, N >= 0; raises ValueError in training mode."""
        require_mode(self.roi_heads, training=False)
        if not len(proposals):
            return Detections.empty()
        canvas = _unscaled(image)
        height, width = canvas.content
        device = next(self.backbone.parameters()).device
        pixels = canvas.pixels[:height, :width].to(device).permute(2, 0, 1)
        boxes = torch.from_numpy(proposals).to(device)
        parts = [self._classify(warp(pixels, some)) for some in torch.split(boxes, MINI_BATCH)]
        logits, deltas = (torch.cat(each) for each in zip(*parts, strict=True))
        return postprocess(Candidates(boxes, logits, deltas), canvas, options, self.roi_heads.box_coder)

    def _classify(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, K) and box deltas (R, 4K) of crops (R, 3, SIDE, SIDE), each pooled whole."""
        crops = crops.contiguous(memory_format=torch.channels_last)
        features = list(levels_of(self.backbone(crops)).values())
        whole = [crops.new_tensor([[0, 0, SIDE, SIDE]])] * len(crops)
        pooled = roi_align(features, whole, (SIDE, SIDE), self.pooling)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits, deltas


def warp(pixels: Tensor, boxes: Tensor) -> Tensor:
    """Crops (N, 3, SIDE, SIDE) of boxes (N, 4) xyxy px of any shape, from normalised pixels (3, H, W).

    The box fills the crop except CONTEXT px of its surroundings on each side; pixels outside the image are 0,
    the mean of normalised pixels. Bilinear, without antialiasing.
    """
    grown = (boxes[:, 2:] - boxes[:, :2]) * (CONTEXT / (SIDE - 2 * CONTEXT))
    around = torch.cat([boxes[:, :2] - grown, boxes[:, 2:] + grown], dim=1)
    crops: Tensor = torchvision_roi_align(pixels[None], [around], SIDE, sampling_ratio=1, aligned=True)
    return crops


def _unscaled(image: Image) -> Canvas:
    """The normalised image at its own size, as R-CNN scales each proposal and not the image."""
    return prepare(image, min(image.width, image.height), max(image.width, image.height))
