"""The training loop: a phase's losses, clipped steps, averaged weights, validation, exact resume."""

import copy
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from models.training.batches import Batch
from models.training.distributed import agreed, place, spread
from models.training.optimizer import TrainingConfig, build_optimizer, learning_rate
from models.training.phases import JOINT, Objective, Phase, freeze_norms, start_learning

Batches = Callable[[int], Iterable[Batch]]  # first batch number -> batches from there on
Progress = Callable[[int, dict[str, float]], None]
Validate = Callable[[FasterRCNN], float]  # averaged network in eval mode -> score, higher is better


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; the message says which part and what to change."""


@dataclass(frozen=True)
class Watch:
    """Who looks on: after each step, and with `validate` after every so many, which picks the best weights.

    The run ends early once `patience` validations in a row have brought nothing better.
    """

    progress: Progress
    validate: Validate | None = None
    validate_every: int = 1
    patience: int = 1_000_000


@dataclass
class _State:
    """Everything that changes from step to step, and so everything a checkpoint holds."""

    network: FasterRCNN
    average: FasterRCNN
    objective: nn.Module  # the network with its losses, perhaps spread over processes
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0
    best: dict[str, Tensor] | None = None
    best_score: float = -math.inf
    stale: int = 0  # validations since the best one

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "step": self.step,
                "best": self.best,
                "best_score": self.best_score,
                "stale": self.stale,
                "random": torch.get_rng_state(),
            },
            partial,
        )
        partial.replace(path)

    def restore(self, path: Path) -> None:
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.step = saved["step"]
        self.best, self.best_score, self.stale = saved["best"], saved["best_score"], saved["stale"]
        torch.set_rng_state(saved["random"])
        if not place().first:  # the saved one is the first process's; the others draw what it does not
            torch.manual_seed(torch.initial_seed() + self.step * place().count)


def train(
    network: FasterRCNN,
    batches: Batches,
    config: TrainingConfig,
    run: Path,
    watch: Watch,
    phase: Phase = JOINT,
) -> FasterRCNN:
    """Train `network`; the averaged one in eval mode, at its best if it was validated.

    Goes on from `run`/checkpoint.pt if there is one, to the same weights as without the interruption (one
    process; several draw other samples after it).
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed + place().rank)
    state = _start(network, config, phase)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state.restore(checkpoint)
    with _log(run / "metrics.jsonl", state.step) as log:
        for batch in batches(state.step):
            if state.step >= config.steps or state.stale >= watch.patience:
                break
            entry = _step(state, batch, config)
            state.step += 1
            watch.progress(state.step, entry)
            if watch.validate is not None and state.step % watch.validate_every == 0:
                entry |= {"score": _validate(state, watch.validate)}
            log.write(json.dumps({"step": state.step, **entry}) + "\n")
            if state.step % config.checkpoint_every == 0 and place().first:
                state.save(checkpoint)
    if place().first:
        (run / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    if state.best is not None:
        state.average.load_state_dict(state.best)
    return state.average.eval()


def _validate(state: _State, validate: Validate) -> float:
    """The averaged weights' score; the best ones are kept."""
    score = agreed(validate(state.average.eval()) if place().first else 0.0)
    state.stale += 1
    if score > state.best_score:
        state.best_score, state.stale = score, 0
        state.best = {name: value.clone() for name, value in state.average.state_dict().items()}
    return score


def _log(path: Path, step: int) -> TextIO:
    """The log, opened to go on after `step`: what an interrupted run wrote past it is done again."""
    if not place().first:
        return Path(os.devnull).open("w")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(lines[:step]))
    return path.open("a", buffering=1)


def _start(network: FasterRCNN, config: TrainingConfig, phase: Phase) -> _State:
    average = copy.deepcopy(network).requires_grad_(False)
    start_learning(network, phase.parts)
    if config.frozen_norms is not None:
        freeze_norms(network, config.frozen_norms)
    scaler = torch.amp.GradScaler(_device(network).type, enabled=config.float16)
    objective = spread(Objective(network, phase))
    return _State(network, average, objective, build_optimizer(network, config), scaler)


def _device(network: FasterRCNN) -> torch.device:
    device: torch.device = next(network.parameters()).device
    return device


def _step(state: _State, batch: Batch, config: TrainingConfig) -> dict[str, float]:
    """One step; returns the rate, the gradient's norm and the phase's parts of Ren et al. 2015, eq. 1."""
    rate = learning_rate(state.step, config)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
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
    _average(state, config.ema_decay)
    return {"lr": rate, "norm": norm.item(), **losses}


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


@torch.no_grad()
def _average(state: _State, decay: float) -> None:
    """Exponential moving average of weights; a young one forgets faster, so the noisy start goes."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for mean, value in zip(
        state.average.state_dict().values(), state.network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
