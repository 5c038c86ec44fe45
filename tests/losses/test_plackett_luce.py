"""The Plackett-Luce loss of ranked lists: closed forms, DPO for two answers, and what a missing place changes."""

from math import factorial, log

import numpy as np
import pytest
import torch
from torch import Tensor

from dpo_lab.evaluation.pair_figures import pair_figures
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.losses.plackett_luce import PlackettLuceLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps, joined

LOSS = PlackettLuceLoss(beta=0.3)


def lists_of(per_response: Tensor, lists: list[list[int]]) -> PairLogps:
    """Return lists of one-token responses."""
    widest = max(map(len, lists))
    ranked = torch.tensor([one_list + [-1] * (widest - len(one_list)) for one_list in lists])
    pairs = torch.tensor([[one_list[0], one_list[-1]] for one_list in lists])
    counts = torch.ones(len(per_response), dtype=torch.int64)
    return PairLogps(ResponseLogps(per_response, counts), pairs, ranked=ranked)


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5


def by_definition(rewards: np.ndarray) -> float:
    """Return -log of the probability to draw a list best first, each place from those that are left."""
    weights = np.exp(rewards)
    return float(-sum(np.log(weights[at] / weights[at:].sum()) for at in range(len(weights))))


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_it_is_the_probability_of_the_ranking(count: int) -> None:
    policy, reference, order = drawn(count, 1), drawn(count, 2), list(reversed(range(count)))
    (value,) = LOSS(lists_of(policy, [order]), lists_of(reference, [order])).tolist()
    assert value == pytest.approx(by_definition(0.3 * (policy - reference).numpy()[order]), rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_probabilities_of_all_rankings_add_up_to_one(count: int) -> None:
    from itertools import permutations

    policy, reference = drawn(count, 1), drawn(count, 2)
    orders = [list(order) for order in permutations(range(count))]
    assert float((-LOSS(lists_of(policy, orders), lists_of(reference, orders))).exp().sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_where_policy_is_reference_it_is_the_log_of_the_number_of_rankings(count: int) -> None:
    same = lists_of(drawn(count, 1), [list(range(count))])
    assert LOSS(same, same).tolist() == pytest.approx([log(factorial(count))])


def test_of_two_answers_it_is_dpo() -> None:
    policy, reference, lists = drawn(100, 1).float(), drawn(100, 2).float(), [[at, at + 50] for at in range(50)]
    expected = DPOLoss(beta=0.3)(lists_of(policy, lists), lists_of(reference, lists))
    assert torch.allclose(LOSS(lists_of(policy, lists), lists_of(reference, lists)), expected, rtol=1e-6, atol=0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    reference, lists = lists_of(drawn(7, 2), [[0, 1, 2, 3], [4, 5], [6, 2, 0]]), [[0, 1, 2, 3], [4, 5], [6, 2, 0]]
    policy = drawn(7, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: LOSS(lists_of(values, lists), reference), policy)


def test_a_list_does_not_depend_on_longer_ones_beside_it() -> None:
    policy, reference, lists = drawn(8, 1), drawn(8, 2), [[0, 1], [2, 3, 4, 5, 6], [7, 0, 3]]
    together = LOSS(lists_of(policy, lists), lists_of(reference, lists))
    alone = [LOSS(lists_of(policy, [one_list]), lists_of(reference, [one_list])) for one_list in lists]
    assert torch.equal(together, torch.cat(alone))


def test_micro_batches_of_lists_are_joined_whatever_their_widths() -> None:
    policy, reference = drawn(8, 1), drawn(8, 2)
    parts = [lists_of(each[:5], [[0, 1, 2], [4, 3]]) for each in (policy, reference)]
    pairs = [PairLogps(lists_of(each[5:], [[2, 0]]).responses, torch.tensor([[2, 0]])) for each in (policy, reference)]
    whole = LOSS(joined([parts[0], pairs[0]]), joined([parts[1], pairs[1]]))
    assert torch.equal(whole, torch.cat([LOSS(*parts), LOSS(*pairs)]))


def test_very_sure_rankings_have_finite_values_and_gradients() -> None:
    for scale in (1e2, 1e4):
        policy = (scale * torch.tensor([3.0, 1.0, 2.0, 0.0])).requires_grad_()
        losses = LOSS(lists_of(policy, [[0, 1, 2, 3], [3, 2]]), lists_of(torch.zeros(4), [[0, 1, 2, 3], [3, 2]]))
        losses.sum().backward()
        assert losses.isfinite().all()
        assert policy.grad is not None
        assert policy.grad.isfinite().all()


def test_accuracy_is_the_share_of_ordered_pairs_and_ties_count_half() -> None:
    # log-ratios 3 1 1 0: five of six pairs in order, one tie; and 0 1 with the worse answer ahead
    lists = [[0, 1, 2, 3], [4, 5]]
    policy, reference = lists_of(torch.tensor([3.0, 1.0, 1.0, 0.0, 0.0, 1.0]), lists), lists_of(torch.zeros(6), lists)
    figures = pair_figures(policy, reference, torch.zeros(2), beta=2.0)
    assert figures["rewards/accuracies"].tolist() == pytest.approx([5 / 6, 0])
    assert figures["rewards/accuracies_ties_half"].tolist() == pytest.approx([5.5 / 6, 0])
    assert figures["rewards/margins"].tolist() == [6.0, -2.0]  # best minus worst
