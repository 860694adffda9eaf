"""The arguments and options of `rcnn export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

Format = Literal["onnx", "openvino", "torch"]


@dataclass(frozen=True)
class ExportArguments:
    """The model, the format and the file."""

    model: Annotated[
        str, Argument(help="Name of a model of the zoo, or path of a .toml card.", metavar="NAME|CARD")
    ]
    to: Annotated[Format, Option(help="onnx; openvino: its IR; torch: torchvision's state dict.")]
    out: Annotated[
        Path,
        Option(help="File to write: .onnx, .xml (with .bin beside it), .pth or .pt.", metavar="FILE"),
    ]
