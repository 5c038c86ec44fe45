"""The ranker `implicit`: what a DPO model's log-probabilities say of an answer, next to those of its reference."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from dpo_lab.components import ConfigError, component
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapted import AdapterSwitch
from dpo_lab.models.load import evaluating, load_model
from dpo_lab.models.storage import Storage
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict
from dpo_lab.ranking.judging_models import (
    identity_of,
    is_adapter,
    known_or_why,
    named,
    parameters_of,
    refuse_unusable_model,
    vocabulary_in,
)
from dpo_lab.records import Candidates
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.passes import score_store, scorer_of
from dpo_lab.tokens.build import tokenise_answers, without_end
from dpo_lab.tokens.store import TokenStore
from dpo_lab.tokens.template import ChatEncoder

BASE, NONE = "base", "none"


@component
class ImplicitReward(Ranker):
    """beta * [log p(answer) under the policy - the same under its reference], Rafailov et al. 2023, eq. 5 (arXiv:2305.18290).

    Answers are read through the policy's own chat template, in fp32 on a CPU and bf16 on a GPU; an answer that was cut has no
    end token. A prompt that the template refuses is a failed verdict.
    """

    label: ClassVar[str] = "implicit"
    on_hub: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    """The policy: a directory, that of an adapter too, or a Hub id."""
    revision: str | None = None
    """Commit, tag or branch of the policy on the Hub; null: the newest."""
    reference: str = BASE
    """base: what an adapter sits on; none: no reference; else a directory or a Hub id with the policy's tokens."""
    reference_revision: str | None = None
    """Commit, tag or branch of the reference on the Hub; null: the newest."""
    beta: PositiveFloat = 0.1
    """Per nat; the one of the policy's training."""
    average: bool = False
    """Over an answer's tokens in place of their sum, as SimPO's reward (Meng et al. 2024, arXiv:2405.14734)."""

    def content(self) -> dict[str, Any]:
        """Return what determines the scores: of each model the files of its directory, or its commit."""
        weights = {name: identity_of(path, revision) for name, (path, revision) in self._models().items()}
        return {**super().content(), "weights": weights}

    def check(self) -> None:
        """Raise ConfigError if a model is not whole, or the policy has no base to compare with."""
        if self.reference == BASE and not is_adapter(self.path):
            raise ConfigError(
                f"ranker.path={self.path} is not an adapter, so ranker.reference=base names no model. Name the one that its "
                "training started from, ranker.reference=DIR, or use no reference: ranker.reference=none ranker.average=true"
            )
        for name, (path, _) in self._models().items():
            refuse_unusable_model(path, "ranker.path" if name == "policy" else "ranker.reference")
        known = [vocabulary_in(Path(path)) for path, _ in self._models().values()]
        if all(known) and known[0] != known[-1]:
            raise ConfigError(self._other_tokens())

    def _other_tokens(self) -> str:
        return (
            f"ranker.reference={self.reference} has other tokens than ranker.path={self.path}, so their log-probabilities do not "
            "compare. Use the model that the policy's training started from."
        )

    def bytes_needed(self, device: str) -> float:
        """Return what the weights take, of a Hub id by its configuration; nothing of one of unknown size (`not_counted`)."""
        return (2.0 if device == "cuda" else 4.0) * sum(size for size, _ in self._sizes())

    def not_counted(self) -> str:
        """Return why the size of a model is not known, an empty text if all are."""
        return next((why for _, why in self._sizes() if why), "")

    def _sizes(self) -> list[tuple[int, str]]:
        return [known_or_why(partial(parameters_of, path, revision)) for path, revision in self._models().values()]

    def win_probability(self, score: float, other: float) -> float | None:
        """Return the Bradley-Terry probability of two implicit rewards (eq. 6); None without reference, or of averages."""
        return None if self.reference == NONE or self.average else 1 / (1 + math.exp(min(other - score, 700.0)))

    def _models(self) -> dict[str, tuple[str, str | None]]:
        """Return path and revision of the models that are loaded, by name."""
        own = {"policy": (self.path, self.revision)}
        return own if self.reference in (BASE, NONE) else {**own, "reference": (self.reference, self.reference_revision)}

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Load policy and reference for the block."""
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        with ExitStack() as stack:
            loaded = {}
            for name, (path, revision) in self._models().items():
                with named("ranker.path" if name == "policy" else "ranker.reference"):
                    storage = Storage(dtype=dtype, revision=revision, adapter_dtype=dtype)
                    loaded[name] = load_model(path, storage, device)
                stack.enter_context(evaluating(loaded[name].model))
            policy = loaded["policy"]
            if "reference" in loaded and loaded["reference"].tokenizer.get_vocab() != policy.tokenizer.get_vocab():
                raise ConfigError(self._other_tokens())
            reference = loaded["reference"].model if "reference" in loaded else None
            off = AdapterSwitch(policy.model, None) if self.reference == BASE else None
            yield OpenImplicit(policy.model, reference, off, policy.tokenizer, self.beta, average=self.average)


@dataclass(frozen=True)
class OpenImplicit:
    """A policy and its reference, loaded."""

    policy: nn.Module
    reference: nn.Module | None
    adapter_off: AdapterSwitch | None
    """Makes the policy its own reference."""
    tokenizer: Any
    beta: float
    average: bool

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return one verdict per set; nan for a prompt that the chat template refuses."""
        encoder = ChatEncoder(self.tokenizer)
        taken = [number for number, each in enumerate(candidates) if encoder.takes(each.prompt)]
        scores = [(math.nan,) * len(candidate.responses) for candidate in candidates]
        if taken:
            store, index = self._tokens(encoder, [candidates[number] for number in taken])
            rewards = self.beta * self._log_ratios(store)
            for number, responses in zip(taken, index, strict=True):
                scores[number] = tuple(rewards[responses].tolist())
        return [Verdict(scores=score) for score in scores]

    def _tokens(self, encoder: ChatEncoder, candidates: Sequence[Candidates]) -> tuple[TokenStore, list[list[int]]]:
        """Return the tokens of all answers, and where those of each set stand."""
        encoded = iter(encoder.encode([(candidate.prompt, text) for candidate in candidates for text in candidate.responses]))
        prompts, answers = [], []
        for candidate in candidates:
            rows = [next(encoded) for _ in candidate.responses]
            prompts.append(rows[0].prompt)
            answers.append(
                [
                    row.response if candidate.has_ended(number) else without_end(row.response, self.tokenizer)
                    for number, row in enumerate(rows)
                ]
            )
        return tokenise_answers(prompts, answers)

    def _log_ratios(self, store: TokenStore) -> Tensor:
        """Return log-probability under the policy less that under the reference of each response, (responses,)."""
        ratios = self._logps(self.policy, store)
        if self.reference is not None:
            ratios = ratios - self._logps(self.reference, store)
        if self.adapter_off is not None:
            with self.adapter_off():
                ratios = ratios - self._logps(self.policy, store)
        return ratios / torch.from_numpy(store.response_lengths.copy()) if self.average else ratios

    @torch.no_grad()
    def _logps(self, model: nn.Module, store: TokenStore) -> Tensor:
        fit = fitted(model, PaddedLayout(), store)
        device = next(model.parameters()).device
        return score_store(scorer_of(model, own_logits=fit.own_logits), store, fit.layout, device).sums
