"""Evaluation: intervals, divergence and held-out figures against numbers had another way."""

import copy
import math

import pytest
import torch
from torch import nn

from dpo_lab.evaluation.agreement import agreement, too_few
from dpo_lab.evaluation.divergence import divergence
from dpo_lab.evaluation.held_out import held_out_logps
from dpo_lab.evaluation.statistics import wilson
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.load import evaluating
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore

LAYOUT = PaddedLayout()


def test_wilson_by_hand() -> None:
    # p = 1, n = 4: centre (1 + z2/8) / (1 + z2/4), upper end exactly 1, lower end 1 / (1 + z2/4)
    z2 = 1.959963984540054**2
    assert wilson(1.0, 4) == pytest.approx((1 / (1 + z2 / 4), 1.0))


def test_wilson_without_trials_knows_nothing() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("chunk", [2**25, 1])  # logits at a time
def test_divergence_is_0_to_itself_and_by_hand_to_another(
    chunk: int, monkeypatch: pytest.MonkeyPatch, model: nn.Module, other_model: nn.Module, store: TokenStore
) -> None:
    monkeypatch.setattr("dpo_lab.scoring.head.CHUNK", chunk)
    with evaluating(model), evaluating(other_model):
        assert divergence(model, model, store, Fit(LAYOUT, own_logits=False)).kl.abs().max() < 1e-6
        found = divergence(model, other_model, store, Fit(LAYOUT, own_logits=False))
        prompt, answer = store.prompt_of(4).tolist(), store.response(4).tolist()
        ids = torch.tensor([prompt + answer])
        ours, theirs = (each(ids).logits[0].double().softmax(-1) for each in (model, other_model))
    positions = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
    by_hand = (ours[positions] * (ours[positions] / theirs[positions]).log()).sum()
    assert float(found.kl[4]) == pytest.approx(float(by_hand), rel=1e-4)
    drawn = (torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1), torch.tensor(answer))
    ratio = (theirs[drawn] / ours[drawn]).log()
    assert float(found.k1[4]) == pytest.approx(float(-ratio.sum()), rel=1e-4)
    assert float(found.k3[4]) == pytest.approx(float((ratio.exp() - 1 - ratio).sum()), rel=1e-4)
    assert float(found.surprise[4]) == pytest.approx(float(-theirs[drawn].log().sum()), rel=1e-4)


def test_rounding_makes_no_divergence_negative(model: nn.Module, store: TokenStore) -> None:
    near = copy.deepcopy(model)
    with torch.no_grad():
        for weights in near.parameters():
            weights.mul_(1 + 3e-7)
    with evaluating(model), evaluating(near):
        found = divergence(model, near, store, Fit(LAYOUT, own_logits=False)).kl
    assert 0 <= float(found.min()) <= float(found.max()) < 1e-5


def test_divergence_estimates_the_mean_log_ratio_of_the_policys_own_draws(model: nn.Module, other_model: nn.Module) -> None:
    # one-token answers, all of them, weighted by the policy: the exact divergence of the first token
    builder = StoreBuilder()
    for token in range(40):
        builder.add_response([5, 6], [token])
    tokens = builder.build()
    with evaluating(model), evaluating(other_model):
        estimate = divergence(model, other_model, tokens, Fit(LAYOUT, own_logits=False)).kl
        batch = LAYOUT.rows(tokens, range(40))
        ratio = score(model, batch).per_token - score(other_model, batch).per_token
    assert estimate.max() - estimate.min() < 1e-4  # the same distribution whatever token was drawn
    assert ratio.std() > 0.1


def test_held_out_figures_of_a_policy_that_equals_its_reference(model: nn.Module, store: TokenStore) -> None:
    reference = FrozenScorer(copy.deepcopy(model))
    with evaluating(model):
        logps = held_out_logps(model, reference, store, Fit(LAYOUT, own_logits=False))
    figures = agreement(*logps, DPOLoss(), has_reference=True).figures
    assert figures["eval/loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert (figures["eval/accuracy"], figures["eval/margin"], figures["eval/pairs"]) == (0.0, 0.0, 12)  # a tie is wrong


def test_held_out_figures_equal_those_of_one_batch(model: nn.Module, other_model: nn.Module, store: TokenStore) -> None:
    with evaluating(other_model):
        logps = held_out_logps(other_model, FrozenScorer(model), store, Fit(LAYOUT, own_logits=False))
        figures = agreement(*logps, DPOLoss(beta=0.5), has_reference=True).figures
        batch = LAYOUT.rows(store, range(store.num_responses))
        change = score(other_model, batch).sums - score(model, batch).sums
    margins = 0.5 * (change[store.pairs[:, 0]] - change[store.pairs[:, 1]])
    assert figures["eval/margin"] == pytest.approx(float(margins.mean()), abs=1e-4)
    assert figures["eval/accuracy"] == float((margins > 0).double().mean())
    assert figures["eval/loss"] == pytest.approx(float(-torch.nn.functional.logsigmoid(margins).mean()), abs=1e-4)


def test_few_pairs_are_said_to_be_few_with_the_interval() -> None:
    low, high = wilson(0.5, 18)
    note = too_few({"eval/accuracy/low": low, "eval/accuracy/high": high, "eval/pairs": 18})
    assert note == "18 held-out pairs are too few to tell: the 95 % interval of the accuracy is [0.29, 0.71]"
    low, high = wilson(0.9, 500)
    assert too_few({"eval/accuracy/low": low, "eval/accuracy/high": high, "eval/pairs": 500}) == ""
