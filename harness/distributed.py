"""One training by several processes, one a device: torch DistributedDataParallel, started by ``torchrun``.

Each process takes its share of every batch and divides its losses by the counts of the whole batch: the
shares then add up to the loss of the batch, and their gradients to its gradient. Process 0 alone writes
files. Without ``torchrun`` there is one process, which agrees with nobody and pays nothing here.

Shapes
    B, H0, W0  clips of a process's share, their padded size
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from harness.data.clips import Batch, pad
from model.errors import InputError
from model.losses import Divisors


class Agreement(NamedTuple):
    """What the processes know of a step before they compute it."""

    batch: Batch
    """The own share, padded to the largest clip of the whole batch"""
    divisors: Divisors | None
    """Those of the whole batch; None where the share is the whole"""
    stop: bool
    """Somebody was asked to stop"""


class Processes:
    """The processes of one training, as one of them sees them; by default it is alone."""

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0, local_count: int = 1) -> None:
        self.rank = rank
        self.count = count
        self.local_rank = local_rank
        self.local_count = local_count
        self._device = torch.device("cpu")
        self._store: Any = None  # a torch Store

    @staticmethod
    def launched() -> int:
        """How many ``torchrun`` has started; 1 without it."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @classmethod
    def started(cls) -> Processes:
        """As ``torchrun`` says in the environment; alone without it."""
        if cls.launched() == 1:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        missing = [name for name in names if name not in os.environ]
        if missing:
            raise InputError(f"WORLD_SIZE is set without {', '.join(missing)}: start processes by torchrun")
        processes = cls(*(int(os.environ[name]) for name in names))
        processes._store, _, _ = next(rendezvous("env://"))
        return processes

    def join(self, device: torch.device) -> None:
        """Wait for the others, to compute on ``device`` with them."""
        if self.count == 1:
            return
        self._device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.count)

    def leave(self) -> None:
        """Nothing more is computed together; what follows may take as long as it likes."""
        if self.count > 1:
            dist.destroy_process_group()

    def check_batch(self, clips: int) -> None:
        """Raise :class:`InputError` where a batch cannot be shared out equally."""
        if clips % self.count:
            raise InputError(
                f"train.clips_per_batch: {clips}: must be a multiple of the number of processes, {self.count}"
            )

    def wrap(self, model: nn.Module, unused_parameters: bool) -> nn.Module:
        """The model whose backward pass takes the mean of all processes' gradients."""
        if self.count == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self._device] if self._device.type == "cuda" else None,
            find_unused_parameters=unused_parameters,
        )

    def agree(self, batch: Batch, divisors: Divisors, stop: bool) -> Agreement:
        """Tell the others of the own share and hear of theirs: one small collective before each step."""
        if self.count == 1:
            return Agreement(batch, None, stop)
        own = [*batch.frames.shape[-2:], *divisors, float(stop)]
        every = self._gather(torch.tensor(own, dtype=torch.float64, device=self._device))
        height, width, *_ = every.amax(0).int().tolist()
        *_, instances, class_weight, stops = every.sum(0).tolist()
        return Agreement(pad(batch, height, width), Divisors(instances, class_weight), stops > 0)

    def add(self, values: Tensor) -> list[float]:
        """Sums over the processes, the same numbers in each; NaN in one is NaN in all."""
        if self.count > 1:
            dist.all_reduce(values)
        return values.tolist()

    def largest(self, value: float) -> float:
        """The largest value of any process."""
        if self.count == 1:
            return value
        own = torch.tensor([value], dtype=torch.float64, device=self._device)
        return self._gather(own).max().item()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def first_to_tell(self) -> bool:
        """Whether no process has told of a failure yet. The one that fails takes the others with it."""
        if self._store is None:
            return True
        try:
            return int(self._store.add("told", 1)) == 1
        except RuntimeError:  # the store went with whoever kept it
            return self.rank == 0

    def _gather(self, own: Tensor) -> Tensor:
        """(n,) of each process to (processes, n)."""
        every = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(every, own)
        return torch.stack(every)


ALONE = Processes()
