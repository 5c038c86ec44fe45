"""Batches: the order of pairs is a function of seed and epoch; one batch is one optimizer step."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from dpo_lab.layouts.base import Layout, PairBatch
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore


class StepSampler(Sampler[list[int]]):
    """Yields the items of each optimizer step of an epoch, every item exactly once."""

    def __init__(self, num_items: int, batch_size: int, seed: int, *, shuffle: bool = True) -> None:
        self.num_items, self.batch_size, self.seed, self.shuffle = num_items, batch_size, seed, shuffle
        self.epoch = 0
        self.sampler = self  # Lightning calls set_epoch on loader.batch_sampler.sampler, never on loader.batch_sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_items // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.num_items)
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive(self.seed, "shuffle", self.epoch))
            order = torch.randperm(self.num_items, generator=generator).numpy()
        for start in range(0, self.num_items, self.batch_size):
            yield order[start : start + self.batch_size].tolist()


def micro_batches(items: Sequence[int], lengths: np.ndarray[Any, Any], size: int) -> list[list[int]]:
    """Split the items of a step into micro-batches of like length, so that little is padded.

    >>> micro_batches([0, 1, 2, 3], np.array([9, 1, 8, 2]), 2)
    [[1, 3], [2, 0]]
    """
    ordered = sorted(items, key=lambda item: int(lengths[item]))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


class Batches(L.LightningDataModule):
    """One optimizer step per batch: a list of micro-batches, made from item numbers by `collate`."""

    def __init__(self, sampler: StepSampler, collate: Callable[[list[int]], list[Any]], epochs: int) -> None:
        super().__init__()
        self.sampler, self.collate, self.epochs = sampler, collate, epochs

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all epochs.

        Counted here: asking the Trainer for it builds the loader before the loops are restored, and a run continued in
        the middle of an epoch would then start from its first batch (Lightning 2.6).
        """
        return len(self.sampler) * self.epochs

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of one epoch's steps."""
        return DataLoader(
            range(self.sampler.num_items),  # type: ignore[arg-type]
            batch_sampler=self.sampler,
            collate_fn=self.collate,
            generator=torch.Generator().manual_seed(0),  # so that making an iterator draws nothing from the global one
        )


def pair_batches(
    store: TokenStore, layout: Layout, *, batch_size: int, micro_batch_size: int, epochs: int, seed: int, shuffle: bool = True
) -> Batches:
    """Return the batches that train on every pair of a store, in the store's own order without `shuffle`."""
    lengths = store.row_lengths()[store.pairs].max(axis=1)

    def collate(pairs: list[int]) -> list[PairBatch]:
        return [layout.pairs(store, each) for each in micro_batches(pairs, lengths, micro_batch_size)]

    return Batches(StepSampler(store.num_pairs, batch_size, seed, shuffle=shuffle), collate, epochs)
