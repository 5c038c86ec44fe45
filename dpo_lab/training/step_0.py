"""The self-test before the first step: a policy that starts as its reference must get the reference's numbers."""

import torch

from dpo_lab.components import RunError
from dpo_lab.layouts.base import ItemBatch
from dpo_lab.models.load import evaluating
from dpo_lab.models.precision import Precision
from dpo_lab.reference.base import Reference
from dpo_lab.scoring.rounding import BF16_LEAST, beyond, rounding
from dpo_lab.training.module import PreferenceModule


class StartGapError(RunError):
    """A policy that starts as its reference has other log-probabilities than the reference."""

    def __init__(self, gap: float, allowed: float) -> None:
        super().__init__(
            f"policy and reference are the same model before the first step, yet differ by {gap:.2g} nats in a "
            f"response (allowed {allowed:.2g}). The model that is trained is then not the one that was scored: "
            "another number format or kernel; try precision=fp32."
        )
        self.gap, self.allowed = gap, allowed


def check_step_0(
    module: PreferenceModule, step: list[ItemBatch], reference: Reference, precision: Precision, device: torch.device
) -> float:
    """Return the largest gap in nats between policy and reference before the first step; they are the same model.

    Raises:
        StartGapError: if they disagree, for then every margin of the run would be wrong by as much.
    """
    module.to(device)
    gap = 0.0
    # in eval mode: an adapter from the round before differs under its own dropout, by design
    with evaluating(module.policy), precision.autocast(device):
        for batch in step:
            policy, fixed = (logp.responses for logp in module.logps(batch.to(device)))
            gaps = (policy.sums - fixed.sums).abs()
            # a cached reference was scored in batches of other shapes
            allowed = torch.zeros_like(gaps) if reference.exact else rounding(module.policy, policy.counts)
            if module.reference.as_drawn:  # decoding rounds otherwise at each token; a pass would be nearer in bf16
                allowed = allowed.clamp(max=BF16_LEAST)
            if worst := beyond(gaps, allowed):
                raise StartGapError(*worst)
            gap = max(gap, float(gaps.max()))
    return gap
