"""Batches: one batch is one optimizer step, planned from seed, epoch and lengths alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dpo_lab.data.base import Order
from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.budget import fill
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.group import Group


def steps_of_epoch(store: TokenStore, batch_size: int, order: Order, seed: int, epoch: int) -> list[list[int]]:
    """Return the items of each optimizer step of an epoch, every item once.

    Ordered by prompt, a step ends early rather than part the items of a prompt, unless they are more than a batch.
    """
    if order == "as_given":
        units = [[item] for item in range(store.num_items)]
    else:
        prompts = store.item_prompts.tolist()
        together: dict[int, list[int]] = {}
        for item in range(store.num_items):
            together.setdefault(prompts[item] if order == "by_prompt" else item, []).append(item)
        generator = torch.Generator().manual_seed(derive(seed, "shuffle", epoch))
        kept = list(together.values())
        units = [kept[index] for index in torch.randperm(len(kept), generator=generator).tolist()]
    return list(fill(units, len, batch_size))


def by_length(items: Sequence[int], store: TokenStore) -> list[list[int]]:
    """Return items by prompt, those with the shortest rows first."""
    together: dict[int, list[int]] = {}
    for item in items:
        together.setdefault(int(store.item_prompts[item]), []).append(item)
    return sorted(together.values(), key=lambda unit: int(store.row_lengths[store.responses_of(unit)].max()))


def share_of(items: list[int], store: TokenStore, group: Group) -> list[int]:
    """Return the items of a step that one process takes: about as many tokens as the others, maybe none.

    The items of a prompt stay together, so that a layout can share it.
    """
    if group.size == 1:
        return items
    shares: list[list[int]] = [[] for _ in range(group.size)]
    tokens = [0] * group.size
    for unit in reversed(by_length(items, store)):  # each to the process that has the least so far
        least = tokens.index(min(tokens))
        shares[least] += unit
        tokens[least] += int(store.row_lengths[store.responses_of(unit)].sum())
    return shares[group.rank]


def micro_batches(items: Sequence[int], store: TokenStore, layout: Layout, budget: int) -> list[list[int]]:
    """Return the items of a step in micro-batches of at most `budget` tokens through the model's body.

    Rows of like length stand together, so that little is padded, and the items of one prompt, so that a layout can share it.
    An item that is longer than the budget is a micro-batch by itself.
    """

    def num_tokens(some: list[int]) -> int:
        return layout.num_tokens(store, list(dict.fromkeys(store.responses_of(some).tolist())))

    return list(fill(by_length(items, store), num_tokens, budget))


class StepSampler(Sampler[list[list[int]]]):
    """Yields the optimizer steps of an epoch, each a list of micro-batches of item numbers.

    Args:
        steps: the items of each step of an epoch.
        split: makes micro-batches of some items.
        share: which items of a step this process takes.
    """

    def __init__(
        self,
        steps: Callable[[int], list[list[int]]],
        split: Callable[[list[int]], list[list[int]]],
        epochs: int,
        share: Callable[[list[int]], list[int]] = lambda step: step,
    ) -> None:
        self.steps, self.split, self.epochs, self.share = steps, split, epochs, share
        self.epoch = 0
        self.done = 0  # steps of the epoch that the next iteration passes over
        self.sampler = self  # Lightning calls set_epoch on loader.batch_sampler.sampler, never on loader.batch_sampler
        self.counts = [len(steps(epoch)) for epoch in range(epochs)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.counts[min(self.epoch, self.epochs - 1)]

    def __iter__(self) -> Iterator[list[list[int]]]:
        """Yield the steps of the epoch; a continued one begins after those that were done."""
        done, self.done = self.done, 0
        for step in self.steps(self.epoch)[done:]:
            yield self.split(self.share(step))


class MicroBatches(Dataset[Any]):
    """Makes the micro-batch of some item numbers."""

    def __init__(self, make: Callable[[list[int]], Any]) -> None:
        self.make = make

    def __getitem__(self, items: list[int]) -> Any:
        return self.make(items)


class StepLoader(DataLoader[Any]):
    """A loader that Lightning keeps in its checkpoints: without a state a continued epoch would begin with its first step."""

    def __init__(self, dataset: "MicroBatches", sampler: StepSampler) -> None:
        own = torch.Generator().manual_seed(0)  # so that making an iterator draws nothing from the global one
        super().__init__(dataset, batch_sampler=sampler, collate_fn=list, generator=own)
        self.steps = sampler
        self._done = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield steps and count them; a generator, so that nothing is drawn before Lightning has called set_epoch."""
        self._done = self.steps.done
        for step in super().__iter__():
            self._done += 1
            yield step

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its steps are done."""
        over = self._done >= len(self.steps)
        return {"epoch": self.steps.epoch + over, "done": 0 if over else self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration where a checkpoint was written."""
        self.steps.epoch, self.steps.done = state["epoch"], state["done"]


class Batches(L.LightningDataModule):
    """One optimizer step per batch: a list of micro-batches."""

    def __init__(self, sampler: StepSampler, make: Callable[[list[int]], Any]) -> None:
        super().__init__()
        self.sampler, self.dataset, self.epochs = sampler, MicroBatches(make), sampler.epochs

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all epochs.

        Counted here, because `trainer.estimated_stepping_batches` builds the loader before the loops are restored, and a run
        that resumes in the middle of an epoch would start from its first batch. Until Lightning closes its issue 20550, which
        is open with 2.6.6: https://github.com/Lightning-AI/pytorch-lightning/issues/20550
        """
        return sum(self.sampler.counts)

    def first_step(self) -> list[Any]:
        """Return the micro-batches of the first optimizer step."""
        return [self.dataset[items] for items in next(iter(self.sampler))]

    def whole_step(self, epoch: int, number: int) -> list[Any]:
        """Return the micro-batches of an optimizer step, of all processes."""
        return [self.dataset[items] for items in self.sampler.split(self.sampler.steps(epoch)[number])]

    def train_dataloader(self) -> StepLoader:
        """Return the loader of one epoch's steps."""
        return StepLoader(self.dataset, self.sampler)


def item_batches(
    store: TokenStore,
    layout: Layout,
    *,
    batch_size: int,
    token_budget: int,
    epochs: int,
    seed: int,
    order: Order = "shuffled",
    group: Group = Group(),  # noqa: B008
) -> Batches:
    """Return the batches that train on every item of a store.

    Args:
        batch_size: items of an optimizer step, of all processes.
        token_budget: tokens of a forward pass, as the layout counts them.
        group: the processes that share every step.
    """
    sampler = StepSampler(
        lambda epoch: steps_of_epoch(store, batch_size, order, seed, epoch),
        lambda step: micro_batches(step, store, layout, token_budget),
        epochs,
        lambda step: share_of(step, store, group),
    )
    return Batches(sampler, lambda items: layout.items(store, items))
