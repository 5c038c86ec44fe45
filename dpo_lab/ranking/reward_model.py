"""The ranker `reward_model`: a sequence classifier scores each answer by its logit."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from dpo_lab.components import ConfigError, component
from dpo_lab.hub import HUB_ID, HubEntry
from dpo_lab.layouts.budget import fill
from dpo_lab.models.classifier import load_classifier, refuse_language_model
from dpo_lab.models.directory import labels_in
from dpo_lab.models.given import digests_of
from dpo_lab.models.hub import SMALL, WEIGHTS, snapshot
from dpo_lab.progress import say
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict
from dpo_lab.ranking.judging_models import known_or_why, parameters_of, refuse_unusable_model
from dpo_lab.ranking.shared_reading import SharedRows, common_tokens, is_plain, shares_prompts
from dpo_lab.records import Candidates
from dpo_lab.tokens.template import ChatEncoder


@component
class RewardModel(Ranker):
    """The logit of a sequence classifier, read through its own chat template; fp32 on a CPU, bf16 on a GPU."""

    label: ClassVar[str] = "reward_model"
    on_hub: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    """Directory or Hub id; weights in safetensors, without its own code."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: the newest."""
    tokens_per_batch: PositiveInt = 4096
    """Padding included; a shared prompt counts once. Changes speed and memory, never a score by more than rounding."""

    def content(self) -> dict[str, Any]:
        """Return what determines the scores: a directory's files or a commit, and not how many rows are scored at once."""
        fields = {name: value for name, value in super().content().items() if name != "tokens_per_batch"}
        local = Path(self.path).is_dir()
        return {**fields, "weights": digests_of(Path(self.path)) if local else snapshot(self._entry(), ("config.json",)).name}

    def check(self) -> None:
        """Raise ConfigError if a directory holds no reward model; a Hub id is asked for when its files are needed."""
        if not Path(self.path).is_dir() and not HUB_ID.fullmatch(self.path):
            raise ConfigError(self._entry().no_id())
        refuse_unusable_model(self.path, "ranker.path")
        if Path(self.path).is_dir():
            refuse_language_model(Path(self.path))
            self._refuse_labels(labels_in(Path(self.path)))

    def bytes_needed(self, device: str) -> float:
        """Return what the weights take, of a Hub id by its configuration; 0 where nobody here knows it (`not_counted`)."""
        return (2.0 if device == "cuda" else 4.0) * self._size()[0]

    def not_counted(self) -> str:
        """Return why the size of a Hub id is not known, an empty text if it is."""
        return self._size()[1]

    def _size(self) -> tuple[int, str]:
        return known_or_why(lambda: parameters_of(self.path, self.revision, classifier=True))

    def _entry(self) -> HubEntry:
        return HubEntry(self.path, self.revision, "model", "ranker")

    def _refuse_labels(self, labels: int) -> None:
        if labels not in (1, 2):
            raise ConfigError(f"ranker.path={self.path} has {labels} labels; a reward model has one, or two: worse and better.")

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Load the classifier for the block."""
        local = Path(self.path)
        directory = local if local.is_dir() else snapshot(self._entry(), (*SMALL, WEIGHTS))
        model, tokenizer = load_classifier(directory, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
        self._refuse_labels(labels := int(model.config.num_labels))
        if labels == 2:
            say("  reward_model has two labels: a score is the logit of the second less that of the first")
        yield OpenRewardModel(model, tokenizer, self.tokens_per_batch, shares_prompts(model))


@dataclass(frozen=True)
class OpenRewardModel:
    """A classifier that is loaded."""

    model: Any
    tokenizer: Any
    tokens: int
    shares: bool
    """Whether the answers to a prompt are read after one copy of it."""

    @torch.no_grad()
    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return one verdict per set, nan where the template refuses its prompt."""
        taken = [candidate for candidate in candidates if ChatEncoder(self.tokenizer).takes(candidate.prompt)]
        rows = [[self.ids(candidate, text) for text in candidate.responses] for candidate in taken]
        scores = {id(each): tuple(said) for each, said in zip(taken, self._scored(rows), strict=True)}
        return [Verdict(scores=scores.get(id(candidate), (math.nan,) * len(candidate.responses))) for candidate in candidates]

    def _scored(self, sets: list[list[list[int]]]) -> list[list[float]]:
        """Return the scores of the rows of each set; a set is read in a shared row where that is right."""
        longest = max((len(row) for rows in sets for row in rows), default=0)
        share = self.shares and is_plain(self.model, longest)
        together = [at for at, rows in enumerate(sets) if share and len(rows) > 1 and common_tokens(rows)]
        scores: dict[int, list[float]] = {}
        shared = SharedRows([sets[at] for at in together])
        order = sorted(range(len(together)), key=lambda one: shared.num_tokens([one]))
        for batch in fill(([one] for one in order), shared.num_tokens, self.tokens):
            for one, logits in zip(batch, shared.logits(self.model, batch), strict=True):
                scores[together[one]] = difference(logits).tolist()
        apart = [at for at in range(len(sets)) if at not in scores]
        of_rows = iter(self._padded([row for at in apart for row in sets[at]]))
        for at in apart:
            scores[at] = [next(of_rows) for _ in sets[at]]
        return [scores[at] for at in range(len(sets))]

    def _padded(self, rows: list[list[int]]) -> list[float]:
        """Return the scores of rows; those of similar length share a batch."""
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        scores = [0.0] * len(rows)

        def padded(batch: list[int]) -> int:
            return len(batch) * max(len(rows[row]) for row in batch)

        for batch in fill(([row] for row in order), padded, self.tokens):
            for row, score in zip(batch, self._scores([rows[row] for row in batch]), strict=True):
                scores[row] = score
        return scores

    def ids(self, candidates: Candidates, answer: str) -> list[int]:
        """Return a row: the conversation as the template writes it, its start token once."""
        turns = [*ChatEncoder(self.tokenizer).turns(candidates.prompt), {"role": "assistant", "content": answer}]
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _scores(self, rows: Sequence[list[int]]) -> list[float]:
        """Return the scores of a batch, each read at the last token of its row, whatever the model takes for padding."""
        alone = len({len(row) for row in rows}) == 1
        padding = self.model.config.pad_token_id
        if padding is None or any(padding in row for row in rows):  # the model finds the end of a row by its padding
            return [float(self._logits(torch.tensor([row]))[0]) for row in rows]
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
        mask = None if alone else torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        found: list[float] = self._logits(ids, mask).tolist()
        return found

    def _logits(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        device = self.model.device
        mask = torch.ones_like(ids) if mask is None else mask
        logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.float()
        return difference(logits)


def difference(logits: Tensor) -> Tensor:
    """Return the score of logits, (rows, labels) to (rows,): the one label, or of two the second less the first."""
    scores: Tensor = logits[:, -1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]
    return scores
