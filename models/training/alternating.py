"""The four steps of alternating training (Ren et al. 2015, §3.2): RPN, head, RPN again, head again."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torchvision.models.detection import FasterRCNN

from models.training.optimizer import TrainingConfig
from models.training.phases import Phase, head_losses, rpn_losses
from models.training.resume import write_whole
from models.training.train import Batches, Callbacks, train

STEPS = 4


@dataclass(frozen=True, eq=False)
class _Run:
    """The arguments shared by the four steps."""

    batches: Batches
    config: TrainingConfig
    folder: Path
    callbacks: Callbacks


def train_alternating(
    network: FasterRCNN, batches: Batches, config: TrainingConfig, folder: Path, callbacks: Callbacks
) -> FasterRCNN:
    """Train in four steps of `config.steps` each; the network whose RPN and head share a backbone.

    1 trains the RPN with a backbone of its own, 2 the head with another backbone on the proposals of 1, 3 the
    RPN on the backbone of 2, now frozen, 4 the head again. Each step resumes from its own folder.
    """
    run = _Run(batches, config, folder, callbacks)
    separate = copy.deepcopy(network)
    proposer = _step(run, 1, network, Phase(rpn_losses, ("backbone", "rpn")))
    shared = _step(run, 2, separate, Phase(head_losses(proposer), ("backbone", "roi_heads")))
    shared.rpn.load_state_dict(proposer.rpn.state_dict())
    proposer = _step(run, 3, shared, Phase(rpn_losses, ("rpn",)))
    trained = _step(run, 4, copy.deepcopy(proposer), Phase(head_losses(proposer), ("roi_heads",)))
    write_whole(folder / "metrics.jsonl", "".join(_joined_log(run)))
    return trained


def _step(run: _Run, number: int, network: FasterRCNN, phase: Phase) -> FasterRCNN:
    """Train one of the four steps; only the last has a complete detector to validate."""
    offset = (number - 1) * run.config.steps
    show = _counted_from(offset, run.callbacks.progress)
    callbacks = replace(
        run.callbacks,
        progress=show,
        validate=run.callbacks.validate if number == STEPS else None,
        keep=run.callbacks.keep if number == STEPS else None,
    )
    return train(network, run.batches, run.config, _folder(run, number), callbacks, phase)


def _counted_from(
    offset: int, progress: Callable[[int, dict[str, float]], None]
) -> Callable[[int, dict[str, float]], None]:
    return lambda step, entry: progress(offset + step, entry)


def _folder(run: _Run, number: int) -> Path:
    return run.folder / f"step-{number}"


def _joined_log(run: _Run) -> Iterator[str]:
    """The four logs as one, with continuous step numbers."""
    for number in range(1, STEPS + 1):
        for line in (_folder(run, number) / "metrics.jsonl").read_text().splitlines():
            entry = json.loads(line)
            entry["step"] += (number - 1) * run.config.steps
            yield json.dumps(entry) + "\n"
