"""The settings of other servers' protocols and of images by URL. A part of `Settings`."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from app.settings.environment import ADDRESS


class ProtocolSettings(BaseSettings):
    """How the DeepStack routes answer, and whether URLs are fetched; `Settings` reads and checks them."""

    deepstack_max_predictions: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Maximum number of predictions in a response of the DeepStack routes, the best ones; "
        "0 uses the model's default. Frigate reads 20.",
    )
    deepstack_label_map: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated name=name"},
        description="Other names for classes in responses of the DeepStack routes, such as truck=car, for "
        "clients with a fixed list of names.",
    )
    deepstack_drop_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated names"},
        description="Classes that the DeepStack routes leave out; Frigate stops reading at the first name "
        "that it does not know.",
    )
    deepstack_upscale: bool = Field(
        default=True,
        json_schema_extra={"allowed": "true, false"},
        description="Whether the DeepStack routes enlarge small images to the model's size, as /detect does; "
        "false is faster, for Frigate's 320 pixels and 100 ms.",
    )
    fetch_urls: bool = Field(
        default=False,
        json_schema_extra={"allowed": "true, false"},
        description="Whether images are fetched from the URLs in JSON bodies of /detect, /detect/batch, "
        "/detect/stream and the Roboflow route, from public hosts only; off by default, because it lets "
        "clients reach into the server's network.",
    )
    shared_memory: bool = Field(
        default=False,
        json_schema_extra={"allowed": "true, false"},
        description="Whether clients on this machine may send tensors in shared memory (Triton's system "
        "shared memory); off by default, because the server then reads files in /dev/shm that clients name.",
    )
    label_studio_url: str | None = Field(
        default=None,
        pattern=ADDRESS,
        json_schema_extra={"allowed": "an address such as http://127.0.0.1:8080"},
        description="The Label Studio whose tasks /predict answers: images are fetched from there, "
        "also where its address is not public.",
    )
    label_studio_token: SecretStr | None = Field(
        default=None,
        json_schema_extra={"allowed": "a token"},
        description="The access token (legacy token) of a user of that Label Studio, for its images; it is "
        "sent to RCNN_LABEL_STUDIO_URL alone.",
    )

    @field_validator("deepstack_drop_labels", mode="before")
    @classmethod
    def _split_names(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values

    @field_validator("deepstack_label_map", mode="before")
    @classmethod
    def _split_pairs(cls, pairs: object) -> object:
        if not isinstance(pairs, str):
            return pairs
        split = [tuple(side.strip() for side in pair.split("=")) for pair in pairs.split(",")]
        if not all(len(pair) == 2 and all(pair) for pair in split):
            raise ValueError("each must be the name of a class, `=`, and the name to give instead")
        return split
