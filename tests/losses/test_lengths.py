"""R-DPO and LD-DPO: losses that know how long responses are, by hand."""

from math import exp, log

import pytest
import torch
from pydantic import ValidationError

from dpo_lab.losses.dpo import DPOLoss, SoftLabelDPOLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.ld_dpo import LDDPOLoss
from dpo_lab.losses.r_dpo import RDPOLoss
from dpo_lab.losses.wpo import WPOLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps, pair_logps
from dpo_lab.tokens.labels import PairLabels


def surprise(logit: float) -> float:
    """Return -log sigmoid(logit)."""
    return log(1 + exp(-logit))


def test_a_longer_chosen_response_is_pushed_less() -> None:
    policy, reference = pair_logps(-2.0, -6.0, tokens=(7, 4)), pair_logps(-2.5, -5.0, tokens=(7, 4))
    # 0.2 * 1.5 + 0.05 * (7 - 4) = 0.45
    assert RDPOLoss(beta=0.2, alpha=0.05)(policy, reference).tolist() == pytest.approx([surprise(0.45)])
    assert torch.equal(RDPOLoss(beta=0.2, alpha=0.0)(policy, reference), DPOLoss(beta=0.2)(policy, reference))


PER_TOKEN = torch.tensor([-1.0, -2.0, -4.0, -3.0, -0.5, -1.5])  # responses of 3, 1 and 2 tokens
SHARED = PairLogps(ResponseLogps(PER_TOKEN, torch.tensor([3, 1, 2])), torch.tensor([[0, 1], [0, 2], [1, 2]]))
NOTHING = PairLogps(ResponseLogps(torch.zeros(6), torch.tensor([3, 1, 2])), SHARED.pairs)


def test_tokens_beyond_the_shorter_response_count_by_alpha() -> None:
    # alpha 1/4. First pair, one token each: -1 + (-2 - 4) / 4 = -2.5 and -3. Second, two: -3 - 4 / 4 = -4 and -2.
    # Third, one: -3 and -0.5 - 1.5 / 4 = -0.875. The same response is another number in each of its pairs.
    seen = LDDPOLoss(alpha=0.25, loss=DPOLoss()).desensitized(SHARED)
    assert seen.sums.tolist() == [[-2.5, -3.0], [-4.0, -2.0], [-3.0, -0.875]]
    loss = LDDPOLoss(alpha=0.25, loss=DPOLoss(beta=1.0))(SHARED, NOTHING)
    assert loss.tolist() == pytest.approx([surprise(0.5), surprise(-2.0), surprise(-2.125)])


def test_a_loss_that_divides_by_tokens_divides_by_all_of_them() -> None:
    # first pair: -2.5 / 3 + 3 / 1, target 1
    loss = LDDPOLoss(alpha=0.25, loss=IPOLoss(beta=0.5))(SHARED, NOTHING)
    assert loss[0].item() == pytest.approx((-2.5 / 3 + 3 - 1) ** 2)


def test_alpha_one_changes_nothing() -> None:
    assert torch.allclose(LDDPOLoss(alpha=1.0, loss=DPOLoss())(SHARED, NOTHING), DPOLoss()(SHARED, NOTHING))


def test_the_loss_inside_reads_the_labels_of_the_pairs() -> None:
    # alpha 0, first tokens alone: -1 + 3 = 2, -3 + 2 = -1, -3 + 0.5 = -2.5
    labels = PairLabels(*torch.tensor([[0.9, 0.5, 0.2], [0.0] * 3, [0.0] * 3]))
    labelled = PairLogps(SHARED.responses, SHARED.pairs, labels)
    loss = LDDPOLoss(alpha=0.0, loss=SoftLabelDPOLoss(beta=1.0))
    by_hand = [
        sum(p * surprise(sign * m) for p, sign in ((q, 1), (1 - q, -1))) for q, m in ((0.9, 2.0), (0.5, -1.0), (0.2, -2.5))
    ]
    assert loss.needs_labels == ("preference",)
    assert loss(labelled, NOTHING).tolist() == pytest.approx(by_hand)


def test_gradients_reach_tokens_by_their_weight() -> None:
    leaf = PER_TOKEN.clone().requires_grad_()
    pairs = PairLogps(ResponseLogps(leaf, SHARED.responses.counts), SHARED.pairs[:1])
    LDDPOLoss(alpha=0.25, loss=DPOLoss(beta=1.0))(pairs, PairLogps(NOTHING.responses, pairs.pairs)).sum().backward()
    assert leaf.grad is not None
    push = 1 / (1 + exp(0.5))  # sigmoid(-logit)
    assert leaf.grad.tolist() == pytest.approx([-push, -push / 4, -push / 4, push, 0.0, 0.0])


def test_weights_of_tokens_belong_outside() -> None:
    with pytest.raises(ValidationError, match="WPO of LD-DPO"):
        LDDPOLoss(loss=WPOLoss(loss=DPOLoss()))
    assert WPOLoss(loss=LDDPOLoss(loss=DPOLoss(beta=0.3))).beta == 0.3
