"""How far a response's log-probability may move with its batch."""

import torch
from torch import nn

from dpo_lab.scoring.rounding import rounding


def test_bf16_is_allowed_more_for_longer_responses_and_fp32_the_same_for_all(model: nn.Module) -> None:
    """Under autocast .0125 sqrt(64) = .1 and .0125 sqrt(1024) = .4, with bf16 weights twice that; never below .05."""
    counts = torch.tensor([1, 64, 1024])
    assert rounding(model, counts).tolist() == torch.tensor([1e-3] * 3).tolist()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(rounding(model, counts), torch.tensor([0.05, 0.1, 0.4]))
    assert torch.allclose(rounding(model.bfloat16(), counts), torch.tensor([0.05, 0.2, 0.8]))
