"""Processes that share the pairs of every optimizer step: what they add up, and how they meet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

Each = TypeVar("Each")
BUCKET = 2**24  # weights whose gradients are added up in one message: 64 MiB in fp32


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together; alone it adds nothing up."""

    rank: int = 0
    """Counted from 0; rank 0 keeps the record, the checkpoints and the terminal."""
    size: int = 1

    def totals(self, numbers: Sequence[int], device: torch.device) -> list[int]:
        """Return the sums over all processes, number by number."""
        if self.size == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.int64, device=device)
        dist.all_reduce(summed)
        return [int(number) for number in summed.tolist()]

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gathered(self, mine: Each) -> list[Each]:
        """Return what every process gave, by rank."""
        if self.size == 1:
            return [mine]
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, mine)
        return everyone

    def add_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Give every process the sum of all gradients; a weight that no process used keeps none."""
        if self.size == 1 or not weights:
            return
        used = self.add(
            torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int32, device=weights[0].device)
        )
        for bucket in buckets([weight for weight, count in zip(weights, used.tolist(), strict=True) if count]):
            gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in bucket]
            flat = self.add(torch.cat([gradient.flatten() for gradient in gradients]))
            for weight, gradient, summed in zip(bucket, gradients, flat.split([each.numel() for each in gradients]), strict=True):
                weight.grad = gradient.copy_(summed.view_as(gradient))


def buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield the weights in order, in lists of one number format and at most BUCKET numbers; a larger one stands alone."""
    bucket: list[nn.Parameter] = []
    held = 0
    for weight in weights:
        if bucket and (weight.dtype != bucket[0].dtype or held + weight.numel() > BUCKET):
            yield bucket
            bucket, held = [], 0
        bucket.append(weight)
        held += weight.numel()
    if bucket:
        yield bucket


@contextmanager
def met(group: Group, store: TCPStore, device: torch.device) -> Iterator[Group]:
    """Connect the processes for the block: gloo between CPUs, NCCL between GPUs."""
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=group.rank, world_size=group.size)
    try:
        yield group
    finally:
        dist.destroy_process_group()
