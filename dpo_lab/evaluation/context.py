"""What a measure is given, and what it returns."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from dpo_lab.components import Component, RunError, plain
from dpo_lab.evaluation.compared import compared_losses
from dpo_lab.evaluation.held_out import held_out_logps
from dpo_lab.evaluation.intervals import Observations
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.models.load import ModelOnDisk, evaluating
from dpo_lab.models.precision import Precision
from dpo_lab.records import Candidates
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.reference.cached import CachedScorer
from dpo_lab.scoring.fitting import fitted, made_ready
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.scoring.passes import score_store, scorer_of
from dpo_lab.tokens.store import LABELS, TokenStore


@dataclass(frozen=True)
class Measured:
    """What a measure found out about one policy."""

    figures: Mapping[str, float]
    """By name; with an interval also NAME/low and NAME/high."""
    answers: Sequence[Candidates] = ()
    """The policy's answers to held-out prompts, if it gave any, with their scores; the report shows some."""
    observed: Observations = field(default_factory=dict)
    """Each answer's or pair's own number, by the figure that is their mean: what models are compared by on the same prompts."""
    credit: Sequence[Mapping[str, Any]] = ()
    """A few held-out pairs with the log-ratio of each token, as `token_credit` returns them; the report colours them."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Pairs that were not trained on, and what the policy is compared with on them."""

    store: TokenStore
    loss: PreferenceLoss
    reference: Reference
    """Where the reference's log-probabilities come from."""
    reference_model: ModelOnDisk
    name: str
    """Of the reference's pass over these pairs: one for every policy that is measured on them, so that it is made once."""
    prompt_ids: Sequence[str] = ()
    """Of each pair, the same for models of different tokenizers; empty: digests of the prompts' tokens."""

    @property
    def prompts(self) -> list[str]:
        """The prompt of each pair: pairs of equal prompts are not independent of each other."""
        if self.prompt_ids:
            return list(self.prompt_ids)
        each = (np.ascontiguousarray(self.store.prompt(index)).tobytes() for index in range(self.store.num_prompts))
        ids = [hashlib.sha256(tokens).hexdigest()[:16] for tokens in each]
        return [ids[index] for index in self.store.item_prompts]

    def content(self) -> dict[str, Any]:
        """Return what determines the figures on these pairs."""
        return {
            "reference": self.reference_model.id,
            "tokens": self.store.fingerprint(),
            "labels": [self.store.label_digest(name) for name in LABELS],  # compared losses read them, whatever the own does
            "compared": plain(compared_losses(self.loss, has_reference=self.reference.compares)),
            "loss": self.loss.content(),
            **({"prompts": "by text"} if self.prompt_ids else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Context:
    """A policy to be measured, and what it may be compared with. Nothing is loaded until the measure asks for it."""

    policy: ModelOnDisk
    """`policy.loaded(device)` returns model and tokenizer."""
    before: ModelOnDisk
    """The model before any training."""
    reference: ModelOnDisk | None = None
    """The reference of the last round, for a measure that looks at it beside `before`; None: not asked for."""
    measured_before: Measured | None = None
    """What this measure found out about `before`; None while that one is measured."""
    measured_previous: Measured | None = None
    """What it found out about the policy of the round before; None in the first round, whose previous model is `before`."""
    held_out: HeldOut | None = None
    """For a measure with `on_pairs`."""
    reference_known: Tensor | None = None
    """(tokens,) log-probabilities of the held-out responses under the reference, in the order of the store, where they were
    computed before (`knowing_reference`); None: they are computed when they are asked for."""
    ranker: Component | None = None
    """What chose the pairs that the policy was trained on; None for pairs that were given."""
    layout: Layout
    precision: Precision
    device: torch.device
    seed: int
    """Of the run: `derive(context.seed, "my_measure")` seeds a generator."""
    outputs: Path
    """Where artifacts are kept that other runs may use, such as the reference's log-probabilities."""
    name: str
    """Of this measurement, for directories."""
    directory: Path | None = None
    """Where parts that take long keep their rows (`continuing.kept_part`), for the same command after a kill; None: nowhere."""

    def inside(self, directory: Path) -> Self:
        """Return the same with a directory."""
        return replace(self, directory=directory)

    def pair_logps(self) -> tuple[PairLogps, PairLogps]:
        """Return the log-probabilities of the held-out pairs under the policy and under its reference.

        They are all 0 under a reference that compares nothing (reference=none).
        """
        if self.held_out is None:
            raise RunError("this measure reads held-out pairs, so its class needs `on_pairs: ClassVar[bool] = True`.")
        held_out, store = self.held_out, self.held_out.store
        weights, full = held_out.reference_model, held_out.loss.needs_full_softmax
        with ExitStack() as models:
            model = models.enter_context(self.policy.lent(self.device)).model
            fit = fitted(model, self.layout, store)
            frozen = ReferenceModel(
                Path(weights.path), lambda: made_ready(models.enter_context(weights.lent(self.device)).model, fit, store)
            )
            with self.precision.autocast(self.device), evaluating(model):
                if self.reference_known is not None:
                    scorer: ReferenceScorer = CachedScorer(self.reference_known, store)
                else:
                    scorer, _ = held_out.reference.scorer(frozen, store, fit, root=self.outputs, name=held_out.name)
                    scorer.follow(model)
                return held_out_logps(model, scorer, store, fit, full_softmax=full, directory=self.directory)

    @torch.no_grad()
    def knowing_reference(self) -> Self:
        """Return the same with the reference's log-probabilities of the held-out pairs, computed while no policy is in memory.

        A policy that is measured again and again, while it is trained, then needs no second model beside it.
        """
        if self.held_out is None or not self.held_out.reference.compares:
            return self
        store, reference, weights = self.held_out.store, self.held_out.reference, self.held_out.reference_model
        with weights.lent(self.device) as loaded:
            model = loaded.model
            fit = fitted(model, self.layout, store)
            scorer: Callable[[ResponseBatch], ResponseLogps] = scorer_of(model, own_logits=fit.own_logits)
            with self.precision.autocast(self.device), evaluating(model):
                if not reference.scores_live:  # its pass is kept, and read again after training
                    frozen = ReferenceModel(Path(weights.path), lambda: model)
                    kept, _ = reference.scorer(frozen, store, fit, root=self.outputs, name=self.held_out.name)
                    scorer = kept.to(self.device)
                return replace(self, reference_known=score_store(scorer, store, fit.layout, self.device).per_token)
