"""Evaluation on held-out pairs: loss, accuracy and margin of the policy against the reference."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.continuing import kept_part
from dpo_lab.evaluation.base import Evaluation
from dpo_lab.evaluation.compared import compared_figures
from dpo_lab.evaluation.figures import pair_figures
from dpo_lab.evaluation.statistics import wilson
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.metrics import MeanOverPairs
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.reference.none import ZeroScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.passes import keeping, score_store, scorer_of
from dpo_lab.tokens.labels import labels_of
from dpo_lab.tokens.store import TokenStore

WIDE = 0.2  # an interval of accuracy at least this wide tells little


@component
class PreferenceEvaluation(Evaluation):
    """Held-out loss, accuracy (ties count as wrong) and margin, with the accuracy's 95 % interval; other losses for free."""

    on_pairs: ClassVar[bool] = True

    @torch.no_grad()
    def figures(
        self,
        policy: nn.Module,
        reference: ReferenceScorer,
        loss: PreferenceLoss,
        store: TokenStore,
        fit: Fit,
        directory: Path | None = None,
    ) -> dict[str, float]:
        """Return the figures of a policy in eval mode on a store's pairs.

        The loss before is that of a policy that equals the reference; without a reference, or
        where the loss takes the policy's full softmax, it is not known.
        Every response is scored once, whatever number of pairs it stands in; means are over pairs.

        Args:
            directory: where log-probabilities are kept as they are computed, for a call after a kill; None keeps nothing.
        """
        device = next(policy.parameters()).device
        pairs, labels = torch.from_numpy(store.pairs.copy()), labels_of(store, torch.arange(store.num_pairs))
        ours_of = scorer_of(policy, own_logits=fit.own_logits, full_softmax=loss.needs_full_softmax)
        both = []
        for name, scorer in (("policy", ours_of), ("reference", reference.to(device))):
            with kept_part(f"evaluate {name}", store.num_responses, directory, "responses") as keep:
                both.append(PairLogps(score_store(keeping(scorer, keep), store, fit.layout, device), pairs, labels))
        ours, theirs = both
        has_reference = not isinstance(reference, ZeroScorer)
        losses = loss(ours, theirs)
        means = MeanOverPairs()
        means.update(pair_figures(ours, theirs, losses, loss.beta))
        every = means.compute()
        accuracy = every["rewards/accuracies"]
        low, high = wilson(accuracy, store.num_pairs)
        others = compared_figures(loss, ours, theirs, has_reference=has_reference)
        known = has_reference and not loss.needs_full_softmax
        before = {"eval/loss/before": float(loss(theirs, theirs).double().mean())} if known else {}
        return {
            "eval/loss": every["loss"],
            **before,
            "eval/accuracy": accuracy,
            "eval/accuracy/low": low,
            "eval/accuracy/high": high,
            "eval/margin": every["rewards/margins"],
            "eval/pairs": store.num_pairs,
            **{f"eval/{name}": value for name, value in every.items() if name != "loss"},
            **{f"eval/losses/{name}": value for name, value in others.items()},
        }


def too_few(figures: dict[str, float]) -> str:
    """Return a sentence if the held-out pairs are too few to tell much, else an empty one."""
    low, high, pairs = figures["eval/accuracy/low"], figures["eval/accuracy/high"], int(figures["eval/pairs"])
    if high - low < WIDE:
        return ""
    return f"{pairs} held-out pairs are too few to tell: the 95 % interval of the accuracy is [{low:.2f}, {high:.2f}]"
