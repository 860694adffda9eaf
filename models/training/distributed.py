"""Data-parallel training: processes that torchrun starts, one GPU each; most runs have one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class ProcessRank:
    """The rank of this process among all that train; only the first validates, logs and writes files."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes for all."""
        return self.rank == 0


SINGLE_PROCESS = ProcessRank()


def process_rank() -> ProcessRank:
    """The rank of this process in the process group, or of a single process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE_PROCESS
    return ProcessRank(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def process_group() -> Iterator[ProcessRank]:
    """Join the process group if torchrun started this process; leave it at the end."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield SINGLE_PROCESS
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield process_rank()
    finally:
        distributed.destroy_process_group()


def process_device(name: str) -> str:
    """The device of this process: of several, each takes the GPU of its local rank."""
    if process_rank().count == 1 or not torch.cuda.is_available() or name == "cpu":
        return name
    return f"cuda:{distributed.get_node_local_rank()}"


def data_parallel(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over the processes; the module itself if there is one process."""
    if process_rank().count == 1:
        return module
    return nn.parallel.DistributedDataParallel(module)


def broadcast(value: float) -> float:
    """The value of the first process, in all processes."""
    if process_rank().count == 1:
        return value
    shared = [value]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]
