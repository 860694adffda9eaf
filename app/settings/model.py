"""The settings of the model: which one, on which device, with which engine. A part of `Settings`."""

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
        description="The model to serve; auto is coco-r50-fpn if its weights are cached or can be fetched, "
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
        description="The folder for fetched weights; each file is fetched once.",
    )
    weights_mirror: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        json_schema_extra={"allowed": "an http or https address, {host} in it stands for the original host"},
        description="Takes the place of https://HOST when weights are fetched: torchvision's, those of "
        "https:// and of hf:// addresses on cards.",
    )
    device: str = Field(
        default="auto",
        pattern=rf"^(auto|{_DEVICE}(,{_DEVICE}){{0,15}})$",
        json_schema_extra={"allowed": "auto, cpu, cuda, cuda:N, or up to 16 devices with commas"},
        description="Where the model runs; auto is the first GPU if there is one, else the CPU. Several "
        "devices, such as cuda:0,cuda:1, share one queue.",
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        default="auto",
        description="The library that runs the networks; auto is the fastest that is installed.",
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        default="auto", description="Number format of the networks; auto chooses one that suits the device."
    )
    jpeg: Literal["pillow", "nvjpeg"] = Field(
        default="pillow",
        description="Decoder of JPEG images; nvjpeg uses the GPU, and its pixels differ slightly.",
    )
    device_memory: float = Field(
        default=1.0,
        gt=0,
        le=1,
        json_schema_extra={"allowed": "a share above 0, up to 1"},
        description="Share of each GPU's memory that this process may allocate, for a GPU that others use "
        "too; not on the CPU.",
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
