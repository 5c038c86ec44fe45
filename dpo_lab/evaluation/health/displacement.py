"""Likelihood displacement: the chosen answers, too, become less likely than under the reference."""

from dpo_lab.evaluation.health.base import Finding, History

SHARE = 0.25
"""Of the growth of the margin: so far must the reward of the chosen answers fall."""


def likelihood_displacement(history: History) -> Finding | None:
    """Return a finding if both rewards fall, the chosen one by a quarter of the margin or more.

    The loss asks that the chosen answer falls less than the rejected one; where both fall, probability goes to answers that
    nobody preferred (Razin et al. 2024, arXiv:2410.08847). Rewards are beta times log-ratios, so the sign tells; the first row
    is where the round began.
    """
    names = ("rewards/chosen", "rewards/rejected")
    begun, now = [history.first(name) for name in names], [history.recent(name) for name in names]
    if not history.enough(10) or None in begun or None in now:
        return None
    chosen, rejected = (float(end or 0.0) - float(start or 0.0) for start, end in zip(begun, now, strict=True))
    margin = chosen - rejected
    if margin <= 0 or chosen >= 0 or -chosen < SHARE * margin:
        return None
    return Finding(
        name="likelihood_displacement",
        round=history.round,
        said=(
            f"chosen and rejected answers both become less likely: their rewards moved by {chosen:.2g} and {rejected:.2g}, "
            "so that probability goes to answers that nobody preferred"
        ),
        remedy="loss=dpo_nll (a likelihood term on the chosen answers), loss=dpop, or a lower optim.lr",
    )
