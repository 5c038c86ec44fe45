"""Agreement with held-out preferences: loss, accuracy and margin of the policy against its reference."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from dpo_lab.evaluation.compared import compared_figures, compared_losses
from dpo_lab.evaluation.pair_figures import pair_figures
from dpo_lab.evaluation.statistics import wilson
from dpo_lab.figures import ACCURACY, LOSS, MARGIN, OF_PAIRS, Figure
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.metrics import MeanOverItems
from dpo_lab.scoring.logps import PairLogps

WIDE = 0.2  # an interval of accuracy at least this wide tells little
LOSSES = "eval/losses/"


def agreement_figures(loss: PreferenceLoss, *, has_reference: bool) -> list[Figure]:
    """Return the figures of `agreement`.

    A compared loss that reads labels is among them, though only the data will tell whether every pair has some.
    """
    known = has_reference and not loss.needs_full_softmax
    details = {"eval/pairs": "held-out pairs"}
    details |= {f"eval/{each.name}": each.title for each in OF_PAIRS if each.name != "loss"}  # which is a headline
    names = compared_losses(loss, has_reference=has_reference)
    details |= {f"{LOSSES}{name}": f"the loss {name} with fixed numbers" for name in names}
    return [
        replace(LOSS, before="computed" if known else None),
        ACCURACY,
        replace(MARGIN, start=0.0 if known else None),
        *(Figure(name=name, title=title, headline=False) for name, title in details.items()),
    ]


@torch.no_grad()
def agreement(policy: PairLogps, reference: PairLogps, loss: PreferenceLoss, *, has_reference: bool) -> dict[str, float]:
    """Return the figures of a policy on held-out pairs; means are over pairs, and ties count as wrong.

    The loss before is that of a policy that equals the reference; without a reference, or
    where the loss takes the policy's full softmax, it is not known.
    """
    means = MeanOverItems()
    means.update(pair_figures(policy, reference, loss(policy, reference), loss.beta))
    of_pairs = means.compute()
    accuracy = of_pairs["rewards/accuracies"]
    low, high = wilson(accuracy, means.count)
    known = has_reference and not loss.needs_full_softmax
    before = {"eval/loss/before": float(loss(reference, reference).double().mean())} if known else {}
    others = compared_figures(loss, policy, reference, has_reference=has_reference)
    return {
        "eval/loss": of_pairs["loss"],
        **before,
        "eval/accuracy": accuracy,
        "eval/accuracy/low": low,
        "eval/accuracy/high": high,
        "eval/margin": of_pairs["rewards/margins"],
        "eval/pairs": means.count,
        **{f"eval/{name}": value for name, value in of_pairs.items() if name != "loss"},
        **{f"{LOSSES}{name}": value for name, value in others.items()},
    }


def too_few(figures: Mapping[str, float]) -> str:
    """Return a sentence if the held-out pairs are too few to tell much, else an empty one."""
    low, high, pairs = figures["eval/accuracy/low"], figures["eval/accuracy/high"], int(figures["eval/pairs"])
    if high - low < WIDE:
        return ""
    return f"{pairs} held-out pairs are too few to tell: the 95 % interval of the accuracy is [{low:.2f}, {high:.2f}]"
