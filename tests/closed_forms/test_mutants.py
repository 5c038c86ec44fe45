"""The closed forms would notice: each of seven classic mistakes, made in the project's own code, moves the optimum found."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.closed_forms.table_model import World, divergence

BETA = 0.5
LOSSES: dict[str, PreferenceLoss] = {"dpo": DPOLoss(beta=BETA), "ipo": IPOLoss(beta=BETA, reduction="sum")}
Patch = Callable[[pytest.MonkeyPatch], None]


def gap(world: World, kind: str) -> float:
    """Return how far the optimum that a loss finds is from its closed form, nats.

    The closed form and the distance are read off the table, so that a mistake in the project's code cannot hide in them.
    """
    target = {"dpo": world.best, "ipo": world.best_of_ipo}[kind](BETA)
    return divergence(world.optimum(LOSSES[kind]), target)


@pytest.fixture(scope="module")
def world() -> World:
    """Two prompts, twenty answers of two and of three tokens to each."""
    return World.random(seed=1)


def in_rows(mistake: Callable[[ResponseBatch], ResponseBatch]) -> Patch:
    """Return the patch that makes a mistake in what the padded layout gives."""
    right = PaddedLayout.rows
    return lambda patch: patch.setattr(PaddedLayout, "rows", lambda self, *rows: mistake(right(self, *rows)))


def in_loss(mistake: Callable[[Callable[..., Tensor], Any, PairLogps, PairLogps], Tensor]) -> Patch:
    """Return the patch that makes a mistake in both losses: a function of (right loss, component, policy, reference)."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for kind in (DPOLoss, IPOLoss):
            right = kind.__call__
            patch.setattr(kind, "__call__", lambda self, *logps, right=right: mistake(right, self, *logps))

    return apply


def only(batch: ResponseBatch, kept: Tensor, predictors: Tensor, targets: Tensor) -> ResponseBatch:
    """Return a batch that scores other tokens: of each response those that are kept."""
    owner = torch.repeat_interleave(batch.counts)
    counts = torch.bincount(owner[kept], minlength=len(batch.counts))
    return replace(batch, predictors=predictors[kept], targets=targets[kept], counts=counts)


def end_not_scored(batch: ResponseBatch) -> ResponseBatch:
    """Leave out the last token of each response."""
    kept = torch.ones_like(batch.targets, dtype=torch.bool)
    kept[batch.counts.cumsum(0) - 1] = False
    return only(batch, kept, batch.predictors, batch.targets)


def mask_not_shifted(batch: ResponseBatch) -> ResponseBatch:
    """Score where the input is a response token: the first one is lost, and the padding after the last one counts."""
    ids, time = batch.inputs["input_ids"], batch.inputs["input_ids"].shape[1]
    predictors = batch.predictors + 1
    inside = predictors % time < time - 1  # nothing follows the last column
    return only(batch, inside, predictors, ids.flatten()[(predictors + 1).clamp(max=ids.numel() - 1)])


def labels_not_shifted(batch: ResponseBatch) -> ResponseBatch:
    """Take each token's probability from the logits at its own position."""
    return replace(batch, predictors=batch.predictors + 1)


def mean_over_tokens(patch: pytest.MonkeyPatch) -> None:
    """Divide each response's log-probability by its number of tokens."""
    right = ResponseLogps.sums.fget  # type: ignore[attr-defined]
    patch.setattr(ResponseLogps, "sums", property(lambda self: right(self) / self.counts))


MUTANTS: dict[str, Patch] = {
    "mean over tokens": mean_over_tokens,
    "end not scored": in_rows(end_not_scored),
    "mask not shifted": in_rows(mask_not_shifted),
    "labels not shifted": in_rows(labels_not_shifted),
    "beta outside the sigmoid": in_loss(lambda right, self, *logps: self.beta * right(replace(self, beta=1.0), *logps)),
    "sign": in_loss(lambda right, self, policy, reference: right(self, reference, policy)),
    "target 1 / beta": in_loss(lambda right, self, *logps: right(replace(self, beta=self.beta / 2), *logps)),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("mutant", MUTANTS)  # the last one is IPO's; in DPO it is a beta of half the size
def test_a_mistake_is_caught(world: World, monkeypatch: pytest.MonkeyPatch, mutant: str, kind: str) -> None:
    assert gap(world, kind) <= 1e-6
    MUTANTS[mutant](monkeypatch)
    assert not gap(world, kind) <= 1e-2  # 0.02 is the least that is seen, 10 the most; not a number is caught as well
