"""The arguments of `serve run app.distributed.ray_serve:build name=value …`, and what follows from them."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.settings.settings import Settings

# The proxy in front of the replicas reads these too, from the environment.
PROXY_SETTINGS = ("timeout_ms", "max_body_bytes")
LAST_ANSWERS_SECONDS = 5.0  # after the drain, for a replica to end its threads
GPU_FILES = "nvidia[0-9]*"


class Arguments(BaseModel):
    """How many replicas, and their resources; other names are settings, `max_queue=32` is RCNN_MAX_QUEUE."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    replicas: int = Field(
        default=1, ge=1, le=10_000, description="Number of replicas at the start, and the minimum."
    )
    max_replicas: int | None = Field(
        default=None, ge=1, le=10_000, description="Maximum number of replicas; by default `replicas`."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Threads of a replica's networks, and the CPUs that it reserves; by default an equal "
        "share of this machine's cores for each of `max_replicas`.",
    )
    gpus: float | None = Field(
        default=None,
        ge=0,
        le=16,
        description="GPUs of a replica; by default one if there is one and the device allows it.",
    )
    ongoing: float | None = Field(
        default=None,
        gt=0,
        description="Target number of requests in a replica; by default a full batch, RCNN_MAX_BATCH.",
    )
    upscale_seconds: float = Field(default=10, ge=0, description="Delay before replicas are added.")
    downscale_seconds: float = Field(default=300, ge=0, description="Delay before replicas are removed.")
    window_seconds: float = Field(
        default=30, gt=10, description="Time over which the number of requests is averaged."
    )

    @model_validator(mode="after")
    def _in_order(self) -> "Arguments":
        if self.most < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than replicas={self.replicas}")
        for name in PROXY_SETTINGS:
            if name in (self.model_extra or {}):
                raise ValueError(
                    f"{name} holds before a replica is chosen: set RCNN_{name.upper()} in the environment "
                    "of every Ray node instead"
                )
        return self

    @property
    def most(self) -> int:
        """The maximum number of replicas."""
        return self.max_replicas or self.replicas

    def settings(self) -> Settings:
        """The settings of a replica: the environment's, and these arguments over them.

        Raises ValueError for a setting that is unknown, out of range, or cannot be used in a replica.
        """
        overrides = self.model_extra or {}
        settings = Settings(**overrides)
        if settings.grpc_port:
            raise ValueError("RCNN_GRPC_PORT: replicas on one machine would share the port; leave it out")
        if settings.device.startswith("cuda:"):
            raise ValueError(f"device={settings.device}: Ray chooses each replica's GPU; use device=cuda")
        threads = self.threads or settings.inference_threads or _share(self.most)
        decoding = settings.decode_threads or threads
        return Settings(**overrides | {"inference_threads": threads, "decode_threads": decoding})

    def gpus_of(self, settings: Settings) -> float:
        """GPUs that a replica reserves."""
        if self.gpus is not None:
            return self.gpus
        uses_gpu = settings.device == "cuda" or (settings.device == "auto" and _has_gpu())
        return 1.0 if uses_gpu else 0.0


def _share(replicas: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // replicas)


def _has_gpu() -> bool:
    return any(Path("/dev").glob(GPU_FILES))
