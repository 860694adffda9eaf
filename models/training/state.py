"""The state of a run, which changes from step to step, and its checkpoints."""

import math
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import FasterRCNN

from models.checkpoints.files import UNREADABLE
from models.training.distributed import data_parallel, process_rank
from models.training.optimizer import TrainingConfig, average_weights, build_optimizer, build_schedule
from models.training.phases import Objective, Phase, freeze_norms, set_trainable

FORMAT = 2  # of a checkpoint; 1 had no schedule and a moving average of its own
STATEFUL = ("network", "average", "optimizer", "schedule", "scaler")
VALUES = ("step", "best", "best_score", "stale")


class RunStateError(ValueError):
    """A checkpoint that cannot be read or written; the text says what to do."""


@dataclass
class State:
    """Everything that a checkpoint holds, and the length of the run that its learning rate is for."""

    network: FasterRCNN
    average: AveragedModel
    objective: nn.Module  # the network with its losses, perhaps data-parallel
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    steps: int
    step: int = 0
    best: dict[str, Tensor] | None = None
    best_score: float = -math.inf
    stale: int = 0  # validations since the best one

    @property
    def averaged(self) -> FasterRCNN:
        """The network with the averaged weights, in eval mode."""
        network: FasterRCNN = self.average.module.eval()
        return network

    def save(self, path: Path) -> None:
        """Write a checkpoint in place of the last; where that fails the last one stays: RunStateError."""
        parts = {name: getattr(self, name).state_dict() for name in STATEFUL}
        values = {name: getattr(self, name) for name in (*VALUES, "steps")}
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save({"format": FORMAT, **parts, **values, "random": torch.get_rng_state()}, file)
                file.flush()
                os.fsync(file.fileno())  # else a power cut leaves the new name with the content of neither
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise RunStateError(_cannot_write(path, self.step, error)) from error

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint; raises RunStateError for a damaged one, or another release's."""
        saved = _read(path)
        longer = saved.get("steps", self.steps) != self.steps
        try:
            rates = _rates_at(self, saved["step"]) if longer else None
            for name in STATEFUL if not longer else [name for name in STATEFUL if name != "schedule"]:
                getattr(self, name).load_state_dict(saved[name])
            for name in VALUES:
                setattr(self, name, saved[name])
            torch.set_rng_state(saved["random"])
        except UNREADABLE as error:
            raise RunStateError(_damaged(path, error)) from error
        if rates is not None:  # the loaded optimizer has those of the shorter run
            self.stale = 0
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        process = process_rank()
        if not process.is_first:  # the saved state is the first process's; the others draw other samples
            torch.manual_seed(torch.initial_seed() + self.step * process.count)


def start(network: FasterRCNN, config: TrainingConfig, phase: Phase) -> State:
    """The state before the first step of a phase."""
    average = average_weights(network, config.ema_decay)
    set_trainable(network, phase.parts)
    if config.frozen_norms is not None:
        freeze_norms(network, config.frozen_norms)
    optimizer = build_optimizer(network, config)
    return State(
        network=network,
        average=average,
        objective=data_parallel(Objective(network, phase)),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config),
        scaler=torch.amp.GradScaler(device_of(network).type, enabled=config.float16),
        steps=config.steps,
    )


def device_of(network: FasterRCNN) -> torch.device:
    """The device of the network's weights."""
    device: torch.device = next(network.parameters()).device
    return device


def _rates_at(state: State, step: int) -> list[float]:
    """The learning rates at `step` of a run of another length: its schedule is stepped up to there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the optimizer was not stepped
        for _ in range(step):
            state.schedule.step()
    return [float(group["lr"]) for group in state.optimizer.param_groups]


def _read(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, weights_only=True)
    except UNREADABLE as error:
        raise RunStateError(_damaged(path, error)) from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        found = saved.get("format", 1) if isinstance(saved, dict) else "none"
        raise RunStateError(
            f"{path} was written by another release (format {found}, this one reads {FORMAT}); start the run "
            "anew with another --out, or delete the file"
        )
    return saved


def _damaged(path: Path, error: Exception) -> str:
    reason = (str(error).split(". ")[0].splitlines() or [type(error).__name__])[0][:200]
    return (
        f"{path} is damaged and was left as it is ({reason}); put a copy back, or delete it to start the "
        "run anew. A model.toml beside it is whole, and can be the start of another run: --from"
    )


def _cannot_write(path: Path, step: int, error: Exception) -> str:
    cause = error.__context__ if isinstance(error.__context__, OSError) else error  # torch's own hides it
    reason = getattr(cause, "strerror", None) or (str(cause).splitlines() or [type(cause).__name__])[0]
    then = "continues from the checkpoint before it" if path.exists() else "starts anew"
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path}: the checkpoint of step {step} cannot be written: {reason}; {free / 1e6:.0f} MB are free. "
        f"Free space and repeat the command, which {then}"
    )
