"""Losses recover the optimum that their papers derive, through token store, layout, scoring and loss."""

import sys
from pathlib import Path

import pytest
import torch

from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.scoring.score import score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.closed_forms.table_model import ANSWERS, PROMPTS, World, answer_logps, divergence

BETAS = [0.1, 0.5, 1.0]
TOLERANCE = 1e-6  # nats; 1e-12 is what is seen


@pytest.fixture(scope="module")
def world() -> World:
    """Two prompts, twenty answers of two and of three tokens to each."""
    return World.random(seed=1)


def test_answers_of_both_lengths_have_the_probability_that_the_table_says(world: World) -> None:
    # a prompt token that is scored cancels in every margin, so that no loss could tell
    logps = score(world.reference, world.batch.rows, own_logits=True)
    scored = torch.empty(len(PROMPTS) * len(ANSWERS), dtype=torch.float64)
    scored[world.batch.rows.responses] = logps.sums
    assert set(logps.counts.tolist()) == {2, 3}
    assert torch.allclose(scored.view(len(PROMPTS), -1), answer_logps(world.reference), rtol=0, atol=1e-12)
    assert torch.allclose(scored.view(len(PROMPTS), -1).exp().sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_dpo_finds_the_reference_tilted_by_the_reward(world: World, beta: float) -> None:
    assert divergence(world.reference, world.best(beta)) > 0.1
    assert divergence(world.optimum(DPOLoss(beta=beta)), world.best(beta)) <= TOLERANCE


@pytest.mark.parametrize("beta", BETAS)
def test_ipo_finds_the_reference_tilted_by_the_rate_of_wins(world: World, beta: float) -> None:
    assert divergence(world.reference, world.best_of_ipo(beta)) > 1e-2
    assert divergence(world.optimum(IPOLoss(beta=beta, reduction="sum")), world.best_of_ipo(beta)) <= TOLERANCE


@pytest.mark.parametrize("beta", BETAS)
def test_robust_dpo_finds_the_optimum_of_the_true_labels_from_flipped_ones(world: World, beta: float) -> None:
    found = world.optimum(RobustDPOLoss(beta=beta, label_smoothing=0.2), flipped=0.2)
    assert divergence(found, world.best(beta)) <= TOLERANCE


@pytest.mark.parametrize("loss", [DPOLoss(beta=0.5), DPOLoss(beta=0.5, label_smoothing=0.2)], ids=["dpo", "cdpo"])
def test_dpo_does_not_undo_flipped_labels_and_label_smoothing_does_not_help(world: World, loss: DPOLoss) -> None:
    assert divergence(world.optimum(loss, flipped=0.2), world.best(0.5)) > 0.1
