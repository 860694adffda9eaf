"""Processes that train one network together, a GPU each, as `torchrun` starts them; most runs are one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class ProcessRank:
    """Which of how many processes this is; the first one alone validates, logs and writes."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0


SINGLE_PROCESS = ProcessRank()


def place() -> ProcessRank:
    """This process among those that train together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE_PROCESS
    return ProcessRank(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined() -> Iterator[ProcessRank]:
    """Meet the other processes where torchrun has started several; part from them at the end."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield SINGLE_PROCESS
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield place()
    finally:
        distributed.destroy_process_group()


def own_device(name: str) -> str:
    """The device of this process: with several, each takes the GPU of its number on its machine."""
    if place().count == 1 or not torch.cuda.is_available() or name == "cpu":
        return name
    return f"cuda:{distributed.get_node_local_rank()}"


def spread(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over the processes; as it is where there is one."""
    if place().count == 1:
        return module
    return nn.parallel.DistributedDataParallel(module)


def agreed(value: float) -> float:
    """The first process's value, in all of them."""
    if place().count == 1:
        return value
    shared = [value]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def meet() -> None:
    """Wait until every process is here."""
    if place().count > 1:
        distributed.barrier()
