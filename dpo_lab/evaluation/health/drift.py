"""How far a policy has moved: in the length of its answers, and in nats."""

from dpo_lab.amounts import short
from dpo_lab.evaluation.health.base import Finding, History

LONGER = 1.3
"""Times as many tokens as before, or as few."""
BUDGET = 0.5
"""Nats per token of an answer that a policy may move; three rounds on the film world take .19, and text breaks from about 1."""
TOKENS = "answers/tokens"


def length_drift(history: History) -> Finding | None:
    """Return a finding if answers to held-out prompts are a third longer or shorter than before training.

    Judges and people prefer longer answers for their length alone (Singhal et al. 2023, arXiv:2310.03716).
    """
    before, now = history.before.get(TOKENS), history.newest(TOKENS)
    if not before or now is None or before / LONGER < now < before * LONGER:
        return None
    chosen, rejected = history.first("lengths/chosen"), history.first("lengths/rejected")
    why = ""
    if chosen and rejected and (chosen - rejected) * (now - before) > 0:
        why = f"; the chosen answers it learns from have {chosen:.0f} tokens, the rejected ones {rejected:.0f}"
    return Finding(
        name="length_drift",
        round=history.round,
        said=f"answers have become {'longer' if now > before else 'shorter'}: {before:.0f} tokens before, {now:.0f} now{why}",
        remedy="loss=r_dpo or loss=dpo_norm (both take length out of the margin), and read win_rate/length_controlled",
    )


def kl_budget(history: History) -> Finding | None:
    """Return a finding if the policy has moved further from the model before than a budget of nats per token.

    The divergence is the measured one (`kl`); without it, minus the mean log-ratio of the training pairs, which estimates the
    divergence the other way round where the reference has drawn them.
    """
    nats, tokens = history.newest("kl"), history.newest(TOKENS)
    what = "from the model before training on its own answers"
    if nats is None or not tokens:
        drift, chosen, rejected = (history.recent(name) for name in ("kl/implicit", "lengths/chosen", "lengths/rejected"))
        if drift is None or not chosen or not rejected or not history.enough(10):
            return None
        nats, tokens = (history.first("kl/implicit") or 0.0) - drift, (chosen + rejected) / 2
        what = "from the reference on the answers of the pairs"
    if nats / tokens <= BUDGET:
        return None
    return Finding(
        name="kl_budget",
        round=history.round,
        said=f"the policy has moved {nats:.3g} nats {what}: {short(nats / tokens)} a token, beyond {short(BUDGET)}",
        remedy="a larger loss.beta, a lower optim.lr, or fewer trainer.epochs",
    )
