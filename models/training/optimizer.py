"""The optimizer, its learning-rate schedule and the moving average of the weights."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

OptimizerName = Literal["adamw", "sgd"]
RateName = Literal["cosine", "steps"]
_Tensors = tuple[Tensor, ...] | list[Tensor]

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
    warmup_steps: int = 200  # at least 1
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    bfloat16: bool = False
    float16: bool = False  # with loss scaling; CUDA only
    frozen_norms: str | None = None  # the norms under this prefix do not learn; "" is all of them
    seed: int = 1
    checkpoint_every: int = 200


def build_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters; biases and norms have no weight decay."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> LRScheduler:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017), or tenfold drops."""
    warmup = config.warmup_steps
    rise = LinearLR(optimizer, 1 / warmup, 1.0, total_iters=warmup - 1)
    fall: LRScheduler
    if config.rate == "steps":
        drops = [max(1, math.ceil(share * config.steps) - warmup) for share in DROPS]
        fall = MultiStepLR(optimizer, drops, gamma=0.1)
    else:
        fall = CosineAnnealingLR(optimizer, max(1, config.steps - warmup))
    return SequentialLR(optimizer, [rise, fall], [warmup])


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers; `update_parameters` adds a step.

    Early on it forgets faster, so that the noisy first weights do not stay in it.
    """

    def update(averages: _Tensors, values: _Tensors, updates: Tensor | int) -> None:
        if averages[0].is_floating_point():
            young = (1 + int(updates)) / (10 + int(updates))
            get_ema_multi_avg_fn(min(decay, young))(averages, values, updates)  # type: ignore[no-untyped-call]  # torch has no types here
        else:  # counters of batches
            torch._foreach_copy_(averages, values)

    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return average.requires_grad_(False)
