"""The settings of the model: which one, on which device, with which engine. A part of `Settings`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

from app.settings.cache_folder import DEFAULT as CACHE_FOLDER

_DEVICE = r"(cpu|cuda|cuda:\d{1,3})"


class ModelSettings(BaseSettings):
    """What is served and where it runs; `app.settings.settings.Settings` reads and checks them."""

    model: str = Field(
        default="auto",
        min_length=1,
        json_schema_extra={"allowed": "auto, the name of a card, or the path of one; several with commas"},
        description="The models to serve, separated by commas; the first one answers requests that name no "
        "model. auto is coco-r50-fpn if its weights are cached or can be fetched, else the bundled shapes.",
    )
    max_loaded_models: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Maximum number of loaded models: more of the catalogue may be loaded beside those of "
        "RCNN_MODEL. 0 is as many as it names. With one, a load replaces the model.",
    )
    load_on_request: bool = Field(
        default=False,
        json_schema_extra={"allowed": "true, false"},
        description="Whether a request that names a model of the catalogue loads it, and waits for it within "
        "its deadline; it needs a larger RCNN_MAX_LOADED_MODELS than RCNN_MODEL has names.",
    )
    model_aliases: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated alias=model"},
        description="Other names of models, such as coco/25=coco-r50-fpn, for clients that have fixed ones.",
    )
    model_dir: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a folder"},
        description="A folder of your own model cards, added to the catalogue: its .toml files, and the "
        "models that `rcnn train --out FOLDER/NAME` wrote in it.",
    )
    cache_dir: Path = Field(
        default=CACHE_FOLDER,
        json_schema_extra={"allowed": "a writable folder"},
        description="The folder for fetched weights; each file is fetched once. Without a home folder that "
        "can be written, the default is a temporary folder, with a warning.",
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
        default="auto",
        description="Number format of the networks; auto is the fastest on this machine of those that the "
        "card's [accuracy] proves, without a record fp32 on a CPU and fp16 on a GPU.",
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
    def models(self) -> tuple[str, ...]:
        """The names and paths in `model`; the first one is the default."""
        return tuple(part.strip() for part in self.model.split(","))

    @property
    def model_limit(self) -> int:
        """How many models may be loaded."""
        return self.max_loaded_models or len(self.models)

    @property
    def devices(self) -> tuple[str, ...]:
        """The names in `device`."""
        return tuple(self.device.split(","))

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str) -> str:
        names = [part.strip() for part in model.split(",")]
        if not all(names):
            raise ValueError("a name is empty; leave out the comma")
        if len(set(names)) < len(names):
            raise ValueError("a model is named twice; name each once")
        return model

    @field_validator("max_loaded_models")
    @classmethod
    def _has_room(cls, most: int, info: ValidationInfo) -> int:
        named = len(info.data.get("model", "").split(","))
        if 0 < most < named:
            raise ValueError(f"RCNN_MODEL names {named} models; allow as many, or name fewer")
        return most

    @field_validator("load_on_request")
    @classmethod
    def _can_load(cls, on: bool, info: ValidationInfo) -> bool:
        named, most = len(info.data.get("model", "").split(",")), info.data.get("max_loaded_models", 0)
        if on and most <= named:
            raise ValueError(
                f"set RCNN_MAX_LOADED_MODELS to more than {named}, or no model can be loaded beside those of "
                "RCNN_MODEL"
            )
        return on

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, pairs: object) -> object:
        if not isinstance(pairs, str):
            return pairs
        split = [tuple(side.strip() for side in pair.rsplit("=", 1)) for pair in pairs.split(",")]
        if not all(len(pair) == 2 and all(pair) for pair in split):
            raise ValueError("each must be the alias, `=`, and the name of a model")
        if len({alias for alias, _ in split}) < len(split):
            raise ValueError("an alias is given twice; give each once")
        return split

    @field_validator("model_dir", "cache_dir")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        try:
            return path.expanduser() if path is not None else None
        except RuntimeError as error:
            raise ValueError(f"{error} Give a path without ~") from error
