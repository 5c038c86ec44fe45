"""IPO: both conventions by hand."""

import pytest

from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.scoring.logps import pair_logps


def test_sum_is_the_papers_formula() -> None:
    # h = 4 - 2.5 = 1.5, target 1 / (2 * 0.25) = 2, (1.5 - 2)^2 = 0.25
    loss = IPOLoss(beta=0.25, reduction="sum")(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    assert loss.tolist() == pytest.approx([0.25])


def test_mean_divides_each_log_ratio_by_its_own_number_of_tokens() -> None:
    # chosen 0.5 / 5 tokens = 0.1, rejected -1 / 2 tokens = -0.5, h = 0.6, target 1 / (2 * 0.5) = 1, (0.6 - 1)^2 = 0.16
    policy, reference = pair_logps(-2.0, -6.0, tokens=(5, 2)), pair_logps(-2.5, -5.0, tokens=(5, 2))
    assert IPOLoss(beta=0.5)(policy, reference).tolist() == pytest.approx([0.16])
