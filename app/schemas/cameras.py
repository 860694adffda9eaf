"""The wire types of cameras: what POST /streams takes, what GET /streams shows, and the lines of results."""

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from app.schemas.options import JsonQuery, Wire

CameraState = Literal["connecting", "running", "waiting", "ended", "failed"]
StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Address = Annotated[str, Field(min_length=1, max_length=2048)]


class WebhookRequest(Wire):
    """Where results are sent by POST, and the secret of their signature."""

    url: Address = Field(description="http or https address of the receiver")
    secret: SecretStr = Field(
        min_length=16,
        max_length=256,
        description="key of the HMAC in the header X-Signature-256: 16 to 256 characters",
    )


class MqttRequest(Wire):
    """The broker and topic that results are published to."""

    url: Address = Field(description="mqtt://HOST or mqtts://HOST, with user and password if it needs them")
    topic: str = Field(pattern=r"^[^+#\x00-\x1f]{1,256}$", description="topic, without + and #")


class CameraRequest(JsonQuery):
    """A camera to read: `name` and `source` are needed; beside them every option of /detect."""

    name: StreamName = Field(
        description="Name of the stream: 1 to 64 letters, digits, - and _, not beginning with - or _."
    )
    source: Address = Field(
        description="Address of the camera (rtsp, rtsps, http, https), a device such as /dev/video0, or the "
        "path of a video file on the server; it must be among RCNN_STREAM_ADDRESSES."
    )
    fps: Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Maximum number of detected frames a second: 0.01 to 100; the default is as many "
        "as the device can do.",
    )
    track: bool = Field(
        default=False,
        description="Whether each object gets an id that it keeps from frame to frame: true or false.",
    )
    skip_empty: bool = Field(
        default=False,
        description="Whether webhook and MQTT get only frames with a detection: true or false.",
    )
    webhook: WebhookRequest | None = Field(
        default=None, description='Receiver of results by POST: {"url", "secret"}.'
    )
    mqtt: MqttRequest | None = Field(
        default=None, description='Receiver of results by MQTT: {"url", "topic"}.'
    )


class DeliveryEntry(Wire):
    """A receiver of results."""

    receiver: Literal["webhook", "mqtt"]
    address: str = Field(description="without credentials, path and query")
    delivered: int
    dropped: int = Field(description="results that a newer one replaced while they waited")
    failed: int = Field(description="tries that failed")
    reason: str | None = Field(description="why the last try failed; null if it did not")


class CameraEntry(Wire):
    """A stream and its state."""

    name: str
    source: str = Field(description="without credentials, path and query; of a file or device its path")
    state: CameraState = Field(
        description="waiting: for the next try, `reason` says why; ended: the file is over; failed: the file "
        "is no video, it is not tried again"
    )
    reason: str | None
    model: str | None = Field(description="the model that was named; null for the default one")
    frames: int = Field(description="frames received")
    answered: int = Field(description="frames with detections, or with none found")
    failed: int = Field(description="frames that were answered with an error")
    dropped: int = Field(description="frames that a newer one replaced while the device was busy")
    connections: int = Field(description="how often the source was opened")
    last_frame: str | None = Field(description="when the last frame came, ISO 8601 in UTC")
    options: dict[str, Any] = Field(description="the options that were given")
    deliveries: list[DeliveryEntry]


class CameraList(Wire):
    """All streams by their names."""

    streams: list[CameraEntry]


class StateLine(Wire):
    """A line about the state: the first one, when it changes, every 15 s of silence, and the last one."""

    stream: str
    state: CameraState
    reason: str | None
