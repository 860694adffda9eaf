"""The torch engine: eager modules on the CPU or a CUDA device, channels last, optionally half precision."""

import copy
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from models.engines.folding import FoldingError, folded
from models.engines.full_float32 import full_float32
from models.engines.fused_convs import FasterConvolve, fuse
from models.engines.parts import DensePart, HeadNHWC, HeadPart
from models.engines.protocol import DenseOutput, PrecisionOverflow, Recording
from models.ops.nms import torchvision_nms

log = logging.getLogger(__name__)

AUTOCAST = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
EXAMPLE = 64, 96  # canvas for the check of folding, px
EXAMPLE_ROIS = 2
HALVED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # autocast would cast their weights at each call


class TorchEngine:
    """Runs a network's parts with torch; `precision` fp16 and bf16 mean half weights under autocast.

    Copies the network's weights, so that the network may be freed or trained. Folds norms and uses channels
    last on every device. On two cores the dense parts of `shapes` and `coco-r50-fpn` take 23 and 1432 ms this
    way, 37 and 1963 ms with the norms, 25 and 1499 ms compiled by inductor with freezing, which also takes 19
    to 24 s to compile each shape and needs a C++ compiler on the server.
    """

    name = "torch"
    suppress = staticmethod(torchvision_nms)

    def __init__(
        self,
        network: FasterRCNN,
        device: torch.device,
        precision: str,
        new_recording: Callable[[], Recording] | None = None,
    ) -> None:
        """`new_recording`: how its runs are recorded as CUDA graphs, and those of each sibling."""
        self.device = str(device)
        self.precision = precision
        self._autocast = AUTOCAST[precision]
        self._nhwc = device.type != "cpu"  # RoIAlign leaves the channels last
        fuses = device.type == "cuda" and self._autocast is not None
        dense, head = _static_parts(network, self._nhwc, FasterConvolve() if fuses else None)
        for part in (dense, head):
            _halve(part, self._autocast)
            part.to(device)
            part.to(memory_format=torch.channels_last)
        self._dense, self._head = dense, head
        self._new_recording = new_recording
        self.recording = new_recording() if new_recording else None

    def sibling(self) -> "TorchEngine":
        """Another engine on the same modules, for another thread: they hold no state between calls."""
        sibling = copy.copy(self)
        sibling.recording = self._new_recording() if self._new_recording else None
        return sibling

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs."""
        with self._precision():
            features, objectness, deltas = self._dense(pixels)
        return DenseOutput(list(features), _float(objectness), _float(deltas))

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, 7, 7) to class logits (R, K) and box deltas (R, 4K)."""
        with self._precision():
            logits, deltas = self._head(pooled.permute(0, 2, 3, 1) if self._nhwc else pooled)
        return logits.float(), deltas.float()

    def _precision(self) -> AbstractContextManager[object]:
        """Autocast for activations; weights are cast already, so it needs no cache."""
        if self._autocast is None:
            return full_float32()
        return torch.autocast(torch.device(self.device).type, self._autocast, cache_enabled=False)


def _static_parts(
    network: FasterRCNN, nhwc: bool, convolve: FasterConvolve | None
) -> tuple[nn.Module, nn.Module]:
    """Copies of both parts with folded norms, unfolded if that would change their outputs.

    With `convolve`, ReLUs and residuals are part of the convolutions before them.
    """
    dense, head = DensePart(network).eval(), (HeadNHWC(network) if nhwc else HeadPart(network)).eval()
    pixels, pooled = _examples(network)
    pooled = pooled.permute(0, 2, 3, 1) if nhwc else pooled
    with full_float32():
        try:
            parts = folded(dense, pixels), folded(head, pooled)
        except FoldingError as error:
            log.warning("the norms are not folded: %s", error)
            parts = copy.deepcopy(dense), copy.deepcopy(head)
        if convolve is not None:
            parts = fuse(parts[0], pixels, convolve), fuse(parts[1], pooled, convolve)
    return parts


def _examples(network: FasterRCNN) -> tuple[Tensor, Tensor]:
    """Noise for the dense part and for the head."""
    side, channels = network.roi_heads.box_roi_pool.output_size[0], network.backbone.out_channels
    device = next(network.parameters()).device
    pixels = torch.randn(1, 3, *EXAMPLE, generator=torch.Generator().manual_seed(0))
    pooled = torch.rand(EXAMPLE_ROIS, channels, side, side, generator=torch.Generator().manual_seed(0))
    return pixels.to(device), pooled.to(device)


def _halve(part: nn.Module, dtype: torch.dtype | None) -> None:
    """Cast the weights of convolutions and linear layers; raises PrecisionOverflow."""
    for name, module in part.named_modules():
        if dtype is not None and isinstance(module, HALVED):
            module.to(dtype)
            count = sum(int((~torch.isfinite(weight)).sum()) for weight in module.parameters())
            if count:
                raise PrecisionOverflow(
                    f"{count} weights of {name} are not finite as {str(dtype).removeprefix('torch.')}; "
                    "set RCNN_PRECISION to fp32"
                )


def _float(levels: Iterable[Tensor]) -> list[Tensor]:
    return [level.float() for level in levels]
