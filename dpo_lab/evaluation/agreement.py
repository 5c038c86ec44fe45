"""Agreement with held-out preferences: loss, accuracy and margin of the policy against its reference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.compared import compared_losses, compared_values
from dpo_lab.evaluation.context import Measured
from dpo_lab.evaluation.intervals import intervals_of, observed_by
from dpo_lab.evaluation.pair_figures import pair_figures
from dpo_lab.evaluation.perplexity import CHOSEN, DRIFT, of_chosen
from dpo_lab.figures import ACCURACY, LOSS, MARGIN, OF_PAIRS, Figure
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.metrics import MeanOverItems
from dpo_lab.scoring.logps import PairLogps

WIDE = 0.2  # an interval of accuracy at least this wide tells little
LOSSES = "eval/losses/"
SHARES = ("eval/accuracy", "eval/rewards/accuracies", "eval/rewards/accuracies_ties_half")


def agreement_figures(loss: PreferenceLoss, *, has_reference: bool) -> list[Figure]:
    """Return the figures of `agreement`.

    A compared loss that reads labels is among them, though only the data will tell whether every pair has some.
    """
    known = has_reference and not loss.needs_full_softmax
    details = {f"eval/{figure.name}": figure.title for figure in OF_PAIRS if figure.name != "loss"}  # which is a headline
    names = compared_losses(loss, has_reference=has_reference)
    details |= {f"{LOSSES}{name}": f"the loss {name} with fixed numbers" for name in names}
    return [
        replace(LOSS, before="computed" if known else None),
        ACCURACY,
        replace(MARGIN, start=0.0 if known else None),
        Figure(name="eval/pairs", title="held-out pairs", headline=False),
        *(Figure(name=name, title=title, headline=False, interval=True) for name, title in details.items()),
        *((CHOSEN, DRIFT) if has_reference else (CHOSEN,)),
    ]


@torch.no_grad()
def agreement(
    policy: PairLogps, reference: PairLogps, loss: PreferenceLoss, *, has_reference: bool, prompts: Sequence[str] | None = None
) -> Measured:
    """Return the figures of a policy on held-out pairs; means are over pairs, and ties count as wrong unless the name says half.

    The loss before is that of a policy that equals the reference; without a reference, or
    where the loss takes the policy's full softmax, it is not known.

    Args:
        prompts: of each pair, the unit of the intervals; None: every pair has its own.
    """
    means, losses = MeanOverItems(), loss(policy, reference)
    values = pair_figures(policy, reference, losses, loss.beta)
    means.update(values)
    of_pairs = means.compute()
    others = compared_values(loss, policy, reference, has_reference=has_reference)
    known = has_reference and not loss.needs_full_softmax
    each = {f"eval/{name}": value for name, value in values.items()} | {LOSSES + name: value for name, value in others.items()}
    each |= {"eval/accuracy": values["rewards/accuracies"], "eval/margin": values["rewards/margins"]}
    numbers = {name: value.double().tolist() for name, value in each.items()}
    prompts = list(prompts) if prompts is not None else [str(number) for number in range(means.count)]
    observed = observed_by(numbers, prompts)
    before = reference.chosen.double().tolist() if has_reference else None
    surprise = of_chosen(policy.chosen.double().tolist(), before, prompts, policy.chosen_tokens.double().tolist())
    figures = {
        "eval/loss": of_pairs["loss"],
        **({"eval/loss/before": float(loss(reference, reference).double().mean())} if known else {}),
        "eval/accuracy": of_pairs["rewards/accuracies"],
        "eval/margin": of_pairs["rewards/margins"],
        "eval/pairs": means.count,
        **{f"eval/{name}": value for name, value in of_pairs.items() if name != "loss"},
        **{LOSSES + name: float(value.mean()) for name, value in others.items()},
        **intervals_of(observed, SHARES),
        **surprise,
    }
    return Measured(figures, observed=observed)


def too_few(figures: Mapping[str, float]) -> str:
    """Return a sentence if the held-out pairs are too few to tell much, else an empty one."""
    pairs = count_of(int(figures["eval/pairs"]), "held-out pair")
    if "eval/accuracy/low" not in figures:
        return f"{pairs} cannot tell: all answer one prompt, or say the same, so the accuracy has no interval"
    low, high = figures["eval/accuracy/low"], figures["eval/accuracy/high"]
    if high - low < WIDE:
        return ""
    return f"{pairs} are too few to tell: the 95 % interval of the accuracy is [{low:.2f}, {high:.2f}]"
