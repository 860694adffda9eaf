"""ResNets as detectron2 and mmdetection build them: other strides, a dilated last stage, ResNeXt."""

from collections.abc import Callable

from torch import nn
from torchvision.models import ResNet, resnet
from torchvision.models.resnet import Bottleneck

Builder = Callable[[], ResNet]


def plain(name: str) -> Builder:
    """torchvision's ResNet of that name, untrained."""
    build: Callable[..., ResNet] = getattr(resnet, name)
    return lambda: build(weights=None)


def caffe(name: str) -> Builder:
    """A ResNet whose stages halve the map in their first 1x1 convolution, as the MSRA weights do."""

    def build() -> ResNet:
        network = plain(name)()
        for block in network.modules():
            if isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        return network

    return build


def resnext(depth: tuple[int, int, int, int], groups: int, width: int) -> Builder:
    """A ResNeXt of `groups` groups that are `width` wide in the first stage (Xie et al. 2017)."""
    return lambda: ResNet(Bottleneck, list(depth), groups=groups, width_per_group=width)


def dilate(stage: nn.Module) -> nn.Module:
    """The stage without its stride and with 3x3 convolutions dilated by 2, as detectron2's DC5."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (2, 2)
    return stage
