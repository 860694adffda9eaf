"""The training loop: the losses of a phase, clipped gradients, averaged weights, validation, exact resume."""

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import FasterRCNN

from models.training.batches import Batch
from models.training.distributed import broadcast, data_parallel, process_rank
from models.training.optimizer import TrainingConfig, average_weights, build_optimizer, build_schedule
from models.training.phases import JOINT, Objective, Phase, freeze_norms, set_trainable

FORMAT = 2  # of a checkpoint; 1 had no schedule and a moving average of its own
STATEFUL = ("network", "average", "optimizer", "schedule", "scaler")
VALUES = ("step", "best", "best_score", "stale")

Batches = Callable[[int], Iterable[Batch]]  # first batch number -> batches from there on
Progress = Callable[[int, dict[str, float]], None]
Validate = Callable[[FasterRCNN], float]  # averaged network in eval mode -> score, higher is better


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; the message says which part and what to change."""


class CheckpointError(ValueError):
    """A checkpoint that this release cannot read; the message says what to do."""


@dataclass(frozen=True)
class Callbacks:
    """What is called during a run: `progress` after each step, `validate` after every `validate_every` steps.

    The weights with the best score are kept; after `patience` validations without a better one the run ends.
    """

    progress: Progress
    validate: Validate | None = None
    validate_every: int = 1
    patience: int = 1_000_000


@dataclass
class _State:
    """Everything that changes from step to step, which is what a checkpoint holds."""

    network: FasterRCNN
    average: AveragedModel
    objective: nn.Module  # the network with its losses, perhaps data-parallel
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
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
        partial = path.with_suffix(".partial")
        parts = {name: getattr(self, name).state_dict() for name in STATEFUL}
        values = {name: getattr(self, name) for name in VALUES}
        torch.save({"format": FORMAT, **parts, **values, "random": torch.get_rng_state()}, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Raises CheckpointError for a checkpoint of another release."""
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        if saved.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} was written by another release (format {saved.get('format', 1)}, this one reads "
                f"{FORMAT}); start the run anew with another --out, or delete the file"
            )
        for name in STATEFUL:
            getattr(self, name).load_state_dict(saved[name])
        for name in VALUES:
            setattr(self, name, saved[name])
        torch.set_rng_state(saved["random"])
        process = process_rank()
        if not process.is_first:  # the saved state is the first process's; the others draw other samples
            torch.manual_seed(torch.initial_seed() + self.step * process.count)


def train(
    network: FasterRCNN,
    batches: Batches,
    config: TrainingConfig,
    run: Path,
    callbacks: Callbacks,
    phase: Phase = JOINT,
) -> FasterRCNN:
    """Train `network`; returns the averaged network in eval mode, with its best weights if it was validated.

    Continues from `run`/checkpoint.pt if there is one. One process then ends with the same weights as without
    the interruption; several processes draw other samples. Raises CheckpointError, TrainingDiverged.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed + process_rank().rank)
    state = _start(network, config, phase)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state.restore(checkpoint)
    with _log(run / "metrics.jsonl", state.step) as log:
        for batch in batches(state.step):
            if state.step >= config.steps or state.stale >= callbacks.patience:
                break
            entry = _step(state, batch, config)
            state.step += 1
            callbacks.progress(state.step, entry)
            if callbacks.validate is not None and state.step % callbacks.validate_every == 0:
                entry |= {"score": _validate(state, callbacks.validate)}
            log.write(json.dumps({"step": state.step, **entry}) + "\n")
            if state.step % config.checkpoint_every == 0 and process_rank().is_first:
                state.save(checkpoint)
    if process_rank().is_first:
        (run / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    if state.best is not None:
        state.average.load_state_dict(state.best)
    return state.averaged


def _validate(state: _State, validate: Validate) -> float:
    """The score of the averaged weights; the best weights are kept."""
    score = broadcast(validate(state.averaged) if process_rank().is_first else 0.0)
    state.stale += 1
    if score > state.best_score:
        state.best_score, state.stale = score, 0
        state.best = {name: value.clone() for name, value in state.average.state_dict().items()}
    return score


def _log(path: Path, step: int) -> TextIO:
    """The log, cut after `step` and opened to append: later steps of an interrupted run are repeated."""
    if not process_rank().is_first:
        return Path(os.devnull).open("w")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(lines[:step]))
    return path.open("a", buffering=1)


def _start(network: FasterRCNN, config: TrainingConfig, phase: Phase) -> _State:
    average = average_weights(network, config.ema_decay)
    set_trainable(network, phase.parts)
    if config.frozen_norms is not None:
        freeze_norms(network, config.frozen_norms)
    optimizer = build_optimizer(network, config)
    return _State(
        network=network,
        average=average,
        objective=data_parallel(Objective(network, phase)),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config),
        scaler=torch.amp.GradScaler(_device(network).type, enabled=config.float16),
    )


def _device(network: FasterRCNN) -> torch.device:
    device: torch.device = next(network.parameters()).device
    return device


def _step(state: _State, batch: Batch, config: TrainingConfig) -> dict[str, float]:
    """One step; returns the rate, the gradient's norm and the phase's loss parts (Ren et al. 2015, eq. 1)."""
    rate = state.schedule.get_last_lr()[0]
    parts = _losses(state, batch, config)
    losses = {name: part.item() for name, part in parts.items()}
    _check_finite(losses, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    total = state.scaler.scale(torch.stack(list(parts.values())).sum())
    total.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.average.update_parameters(state.network)
    return {"lr": float(rate), "norm": norm.item(), **losses}


def _losses(state: _State, batch: Batch, config: TrainingConfig) -> dict[str, Tensor]:
    device = _device(state.network)
    images = [image.to(device) for image in batch.images]
    targets = [{name: value.to(device) for name, value in target.items()} for target in batch.targets]
    kind = torch.float16 if config.float16 else torch.bfloat16
    with torch.autocast(device.type, kind, enabled=config.bfloat16 or config.float16):
        parts: dict[str, Tensor] = state.objective(images, targets)
    return parts


def _check_finite(losses: dict[str, float], step: int) -> None:
    bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
    if bad:
        raise TrainingDiverged(
            f"{', '.join(bad)} is not finite at step {step}; lower the learning rate or check the boxes"
        )
