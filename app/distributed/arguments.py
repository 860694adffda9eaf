"""What `serve run app.distributed.ray_serve:build name=value …` takes, and what follows from it."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.settings.settings import Settings

# The door in front of the replicas reads these too, and it knows the environment alone.
DOORS_OWN = ("timeout_ms", "max_body_bytes")
LAST_ANSWERS_SECONDS = 5.0  # on top of the drain: for a replica to end its threads
GPU_FILES = "nvidia[0-9]*"


class Arguments(BaseModel):
    """How many replicas and with what; every other name is a setting, `max_queue=32` for RCNN_MAX_QUEUE."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    replicas: int = Field(default=1, ge=1, le=10_000, description="Replicas to start with, and the fewest.")
    max_replicas: int | None = Field(
        default=None, ge=1, le=10_000, description="The most replicas; as many as `replicas` without it."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Threads of a replica's networks, and the CPUs it reserves; without it an equal share "
        "of this machine's cores among `max_replicas`.",
    )
    gpus: float | None = Field(
        default=None,
        ge=0,
        le=16,
        description="GPUs of a replica; without it one where this machine has any and the device allows it.",
    )
    ongoing: float | None = Field(
        default=None,
        gt=0,
        description="Requests inside a replica to scale for; without it a full batch, RCNN_MAX_BATCH.",
    )
    upscale_seconds: float = Field(default=10, ge=0, description="How long more replicas must be wanted.")
    downscale_seconds: float = Field(default=300, ge=0, description="How long fewer must be wanted.")
    window_seconds: float = Field(default=30, gt=10, description="Time over which requests are averaged.")

    @model_validator(mode="after")
    def _in_order(self) -> "Arguments":
        if self.most < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than replicas={self.replicas}")
        for name in DOORS_OWN:
            if name in (self.model_extra or {}):
                raise ValueError(
                    f"{name} holds before a replica is chosen: set RCNN_{name.upper()} in the environment "
                    "of every Ray node instead"
                )
        return self

    @property
    def most(self) -> int:
        """The most replicas there can be."""
        return self.max_replicas or self.replicas

    def settings(self) -> Settings:
        """The settings of a replica: those of the environment, and over them what was given here.

        Raises ValueError for a setting that is unknown, out of range, or of no use in a replica.
        """
        given = self.model_extra or {}
        settings = Settings(**given)
        if settings.grpc_port:
            raise ValueError("RCNN_GRPC_PORT: replicas on one machine would share the port; leave it out")
        if settings.device.startswith("cuda:"):
            raise ValueError(f"device={settings.device}: Ray chooses each replica's GPU; say device=cuda")
        threads = self.threads or settings.inference_threads or _share(self.most)
        decoding = settings.decode_threads or threads
        return Settings(**given | {"inference_threads": threads, "decode_threads": decoding})

    def gpus_of(self, settings: Settings) -> float:
        """GPUs that a replica reserves."""
        if self.gpus is not None:
            return self.gpus
        wanted = settings.device == "cuda" or (settings.device == "auto" and _has_gpu())
        return 1.0 if wanted else 0.0


def _share(replicas: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // replicas)


def _has_gpu() -> bool:
    return any(Path("/dev").glob(GPU_FILES))
