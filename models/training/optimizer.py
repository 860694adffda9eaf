"""What moves the weights: AdamW or SGD, and the rate over the run."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "sgd"]
RateName = Literal["cosine", "steps"]

MOMENTUM = 0.9  # of SGD; Ren et al. 2015, §3.1.3
DROPS = (2 / 3, 8 / 9)  # of the run; the stepped rate falls tenfold there (Lin et al. 2017: 60k, 80k of 90k)


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the result of a run, apart from the data."""

    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    optimizer: OptimizerName = "adamw"
    rate: RateName = "cosine"
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    bfloat16: bool = False
    float16: bool = False  # with loss scaling; CUDA alone
    frozen_norms: str | None = None  # the norms under this prefix do not learn; "" is all of them
    seed: int = 1
    checkpoint_every: int = 200


def build_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of the parameters that learn; biases and norms do not decay."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017), or tenfold drops."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.rate == "steps":
        return config.learning_rate * 0.1 ** sum(step >= share * config.steps for share in DROPS)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
