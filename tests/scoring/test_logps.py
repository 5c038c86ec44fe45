"""Log-probabilities: sums by response, pairs by index, precision."""

import torch

from dpo_lab.scoring.logps import PairLogps, ResponseLogps, joined, pair_logps, token_logps
from dpo_lab.tokens.labels import PairLabels


def test_sums_run_over_each_responses_own_tokens() -> None:
    logps = ResponseLogps(torch.tensor([-1.0, -2.0, -4.0, -8.0]), torch.tensor([1, 3]))
    assert logps.sums.tolist() == [-1.0, -14.0]


def test_a_response_may_stand_in_several_pairs() -> None:
    logps = ResponseLogps(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([1, 1, 1]))
    pairs = PairLogps(logps, torch.tensor([[0, 1], [0, 2]]))
    assert pairs.margin.tolist() == [1.0, 3.0]


def test_swapping_the_sides_flips_the_margin() -> None:
    logps = ResponseLogps(torch.randn(5, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 3]))
    one, other = PairLogps(logps, torch.tensor([[0, 1]])), PairLogps(logps, torch.tensor([[1, 0]]))
    assert torch.equal(one.margin, -other.margin)


def test_joined_batches_keep_the_labels_of_their_pairs() -> None:
    parts = [
        pair_logps(chosen, rejected, labels=PairLabels(*torch.tensor(labels)))
        for chosen, rejected, labels in (
            ([-1.0, -2.0], [-3.0, -5.0], [[0.9, 0.8], [4.0, 3.0], [1.0, 2.0]]),
            ([-6.0], [-7.0], [[0.7], [9.0], [8.0]]),
        )
    ]
    whole = joined(parts)
    assert whole.margin.tolist() == [2.0, 3.0, 1.0]
    assert whole.labels is not None
    assert torch.equal(whole.labels.preference, torch.tensor([0.9, 0.8, 0.7]))
    assert torch.equal(whole.labels.score_chosen, torch.tensor([4.0, 3.0, 9.0]))
    assert torch.equal(whole.labels.score_rejected, torch.tensor([1.0, 2.0, 8.0]))


def test_token_logps_promote_half_precision_and_keep_double() -> None:
    targets = torch.tensor([1])
    for dtype, made in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)):
        assert token_logps(torch.zeros(1, 4, dtype=dtype), targets).dtype is made
    # uniform over four tokens: -log 4
    assert torch.allclose(token_logps(torch.zeros(1, 4), targets), -torch.tensor([4.0]).log())
