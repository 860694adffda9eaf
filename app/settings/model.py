"""The settings of the model: which one, on what, computed by what. A part of `Settings`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

_DEVICE = r"(cpu|cuda|cuda:\d{1,3})"


class ModelSettings(BaseSettings):
    """What is served and where it runs; `app.settings.settings.Settings` reads and checks them."""

    model: str = Field(
        default="auto",
        min_length=1,
        json_schema_extra={"allowed": "auto, the name of a card, or the path of one"},
        description="The model to serve; auto takes coco-r50-fpn if its weights are there or can be fetched, "
        "else the bundled shapes.",
    )
    model_dir: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a folder"},
        description="A folder of your own model cards, added to the catalogue.",
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/rcnn-serve"),
        json_schema_extra={"allowed": "a writable folder"},
        description="Where fetched weights are kept, so that each is fetched only once.",
    )
    device: str = Field(
        default="auto",
        pattern=rf"^(auto|{_DEVICE}(,{_DEVICE}){{0,15}})$",
        json_schema_extra={"allowed": "auto, cpu, cuda, cuda:N, or up to 16 devices with commas"},
        description="Where the model runs; auto takes the first GPU if there is one. Several, such as "
        "cuda:0,cuda:1, work on one queue.",
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        default="auto",
        description="What computes the networks; auto takes the best that is installed.",
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        default="auto", description="The arithmetic of the networks; auto takes what suits the device."
    )
    jpeg: Literal["pillow", "nvjpeg"] = Field(
        default="pillow",
        description="What decodes JPEGs; nvjpeg does it on the GPU, and its pixels differ a little.",
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """The names in `device`."""
        return tuple(self.device.split(","))

    @field_validator("model_dir", "cache_dir")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        try:
            return path.expanduser() if path is not None else None
        except RuntimeError as error:
            raise ValueError(f"{error} Give a path without ~") from error
