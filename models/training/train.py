"""The training loop: torchvision's multi-task loss, AdamW, warm-up and cosine, averages, exact resume."""

import copy
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from models.training.data import Batch

Batches = Callable[[int], Iterable[Batch]]  # first batch number -> batches from there on
Progress = Callable[[int, dict[str, float]], None]
Validate = Callable[[FasterRCNN], float]  # averaged network in eval mode -> score, higher is better


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number; the message says which part and what to change."""


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the result of a run, apart from the data."""

    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    bfloat16: bool = False
    seed: int = 1
    checkpoint_every: int = 200


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
    optimizer: torch.optim.Optimizer
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
        self.step = saved["step"]
        self.best, self.best_score, self.stale = saved["best"], saved["best_score"], saved["stale"]
        torch.set_rng_state(saved["random"])


def train(
    network: FasterRCNN, batches: Batches, config: TrainingConfig, run: Path, watch: Watch
) -> FasterRCNN:
    """Train `network`; the averaged one in eval mode, at its best if it was validated.

    Goes on from `run`/checkpoint.pt if there is one, to the same weights as without the interruption.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    state = _start(network, config)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state.restore(checkpoint)
    _forget_after(run / "metrics.jsonl", state.step)
    with (run / "metrics.jsonl").open("a", buffering=1) as log:
        for batch in batches(state.step):
            if state.step >= config.steps or state.stale >= watch.patience:
                break
            entry = _step(state, batch, config)
            state.step += 1
            watch.progress(state.step, entry)
            if watch.validate is not None and state.step % watch.validate_every == 0:
                entry |= {"score": _validate(state, watch.validate)}
            log.write(json.dumps({"step": state.step, **entry}) + "\n")
            if state.step % config.checkpoint_every == 0:
                state.save(checkpoint)
    (run / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    if state.best is not None:
        state.average.load_state_dict(state.best)
    return state.average.eval()


def _validate(state: _State, validate: Validate) -> float:
    """The averaged weights' score; the best ones are kept."""
    score = validate(state.average.eval())
    state.stale += 1
    if score > state.best_score:
        state.best_score, state.stale = score, 0
        state.best = {name: value.clone() for name, value in state.average.state_dict().items()}
    return score


def _forget_after(log: Path, step: int) -> None:
    """Drop what an interrupted run logged past its checkpoint: those steps are taken again."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(lines[:step]))


def _start(network: FasterRCNN, config: TrainingConfig) -> _State:
    network.train()
    average = copy.deepcopy(network).requires_grad_(False)
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]  # biases and norms: no decay
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return _State(network, average, torch.optim.AdamW(groups, lr=config.learning_rate))


def _step(state: _State, batch: Batch, config: TrainingConfig) -> dict[str, float]:
    """One step; returns the rate and the four loss parts of Ren et al. 2015, eq. 1, for RPN and head."""
    rate = learning_rate(state.step, config)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    device = next(state.network.parameters()).device
    images = [image.to(device) for image in batch.images]
    targets = [{name: value.to(device) for name, value in target.items()} for target in batch.targets]
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        parts: dict[str, Tensor] = state.network(images, targets)
    losses = {name: part.item() for name, part in parts.items()}
    _check_finite(losses, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    state.optimizer.step()
    _average(state, config.ema_decay)
    return {"lr": rate, "norm": norm.item(), **losses}


def _check_finite(losses: dict[str, float], step: int) -> None:
    bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
    if bad:
        raise TrainingDiverged(
            f"{', '.join(bad)} is not finite at step {step}; lower the learning rate or check the boxes"
        )


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


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
