"""The training loop: the losses of a phase, clipped gradients, averaged weights, validation, exact resume."""

import json
import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from models.training.batches import Batch
from models.training.distributed import broadcast, process_rank
from models.training.optimizer import TrainingConfig
from models.training.phases import JOINT, Phase
from models.training.resume import write_whole
from models.training.run_log import LogKind, RunLog
from models.training.state import RunStateError as RunStateError
from models.training.state import State, device_of, start

Batches = Callable[[int], Iterable[Batch]]  # first batch number -> batches from there on
Progress = Callable[[int, dict[str, float]], None]
Validate = Callable[[FasterRCNN], float]  # averaged network in eval mode -> score, higher is better
Keep = Callable[[FasterRCNN, int], None]  # averaged network in eval mode, its step


class TrainingDiverged(RuntimeError):
    """A loss or gradient is no longer a finite number; the text says which, and what to change."""


@dataclass(frozen=True)
class Callbacks:
    """What is called during a run: `progress` after each step, `validate` after every `validate_every` steps.

    The weights with the best score are kept; after `patience` validations without a better one the run ends.
    `keep` gets them whenever they are better; without validation the newest, with each checkpoint.
    """

    progress: Progress
    validate: Validate | None = None
    validate_every: int = 1
    patience: int = 1_000_000
    keep: Keep | None = None
    log: tuple[LogKind, ...] = ()


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
    the interruption; several processes draw other samples. A longer `config.steps` than the checkpoint's
    extends the run. Raises RunStateError, TrainingDiverged.
    """
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed + process_rank().rank)
    state = start(network, config, phase)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state.restore(checkpoint)
    try:
        _run_steps(state, batches, config, run, callbacks)
    except KeyboardInterrupt:
        if state.step and state.best is None:
            _keep(state, callbacks)
        raise
    if process_rank().is_first:
        write_whole(run / "config.json", json.dumps(asdict(config), indent=2) + "\n")
    if state.best is not None:
        state.average.load_state_dict(state.best)
    return state.averaged


def _run_steps(
    state: State, batches: Batches, config: TrainingConfig, run: Path, callbacks: Callbacks
) -> None:
    is_first = process_rank().is_first
    with RunLog(run, state.step, callbacks.log) if is_first else nullcontext() as log:
        for batch in batches(state.step):
            if state.step >= config.steps or state.stale >= callbacks.patience:
                break
            entry = _step(state, batch, config)
            state.step += 1
            if callbacks.validate is not None and state.step % callbacks.validate_every == 0:
                entry |= {"score": _validate(state, callbacks)}
            if log is not None:
                log.write(state.step, entry)
            callbacks.progress(state.step, entry)
            if state.step % config.checkpoint_every == 0 and is_first:
                if callbacks.validate is None:
                    _keep(state, callbacks)
                state.save(run / "checkpoint.pt")


def _validate(state: State, callbacks: Callbacks) -> float:
    """The score of the averaged weights; the best weights are kept."""
    validate = callbacks.validate
    score = broadcast(validate(state.averaged) if validate and process_rank().is_first else 0.0)
    state.stale += 1
    if score > state.best_score:
        state.best_score, state.stale = score, 0
        state.best = {name: value.clone() for name, value in state.average.state_dict().items()}
        _keep(state, callbacks)
    return score


def _keep(state: State, callbacks: Callbacks) -> None:
    if callbacks.keep is not None and process_rank().is_first:
        callbacks.keep(state.averaged, state.step)


def _step(state: State, batch: Batch, config: TrainingConfig) -> dict[str, float]:
    """One step; returns the rate, the gradient's norm and the phase's loss parts (Ren et al. 2015, eq. 1)."""
    rate = state.schedule.get_last_lr()[0]
    parts = _losses(state, batch, config)
    losses = {name: part.item() for name, part in parts.items()}
    _check_finite(losses, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    total = state.scaler.scale(torch.stack(list(parts.values())).sum())
    total.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm).item()
    if not config.float16:  # there the scaler leaves such a step out
        _check_finite({"the gradient": norm}, state.step)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.average.update_parameters(state.network)
    return {"lr": float(rate), "norm": norm, **losses}


def _losses(state: State, batch: Batch, config: TrainingConfig) -> dict[str, Tensor]:
    device = device_of(state.network)
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
            f"{', '.join(bad)} is not finite at step {step}; lower the learning rate or check the boxes; "
            "the last checkpoint is kept"
        )
