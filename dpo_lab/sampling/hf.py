"""Sampling with a transformers model: each prompt is read once, its keys and values serve all its answers."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from dpo_lab.components import ConfigError, component
from dpo_lab.continuing import Keep, make_now
from dpo_lab.drawn import Drawn, rounded
from dpo_lab.models.ends import ends_of
from dpo_lab.models.load import ModelOnDisk, evaluating
from dpo_lab.progress import say_once
from dpo_lab.sampling.base import OpenSampler, Sampler
from dpo_lab.sampling.choice import Chooser, library_filters, names_of, repetition_filter, uniforms_of
from dpo_lab.sampling.library_cache import LibraryCache
from dpo_lab.sampling.sharing import reason_against_sharing, sharing
from dpo_lab.scoring.score import language_model

NONE = -1  # stands where an answer has no token
TINY = 5_000_000  # parameters
DROPPED = 8  # answers leave the batch when at least one in so many is finished


@component
class HFSampler(Sampler):
    """Draws answers token by token from a transformers model."""

    gives_own_logps: ClassVar[bool] = True

    num_samples: PositiveInt = 5
    """Answers per prompt."""
    temperature: NonNegativeFloat = 1.0
    """Below 1 the likely tokens gain, above 1 they lose; 0 is greedy: the likeliest token each time, one answer per prompt."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest set of likeliest tokens with this much probability is drawn from (Holtzman et al. 2020); 1 is off."""
    top_k: NonNegativeInt = 0
    """So many likeliest tokens are drawn from (Fan et al. 2018); 0 is off."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Tokens with less than this share of the likeliest token's probability are left out (Nguyen et al. 2024); 0 is off."""
    repetition_penalty: PositiveFloat = 1.0
    """Above 1, tokens that the prompt or the answer has already are less likely (Keskar et al. 2019); 1 is off."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; what comes before the first of them is its text."""
    max_new_tokens: PositiveInt = 256
    """An answer that has not ended by then is cut, and one that reaches the last position that the model reads."""
    batch_size: PositiveInt = 256
    """Answers that are drawn together."""

    @property
    def greedy(self) -> bool:
        """Whether no random number is drawn."""
        return self.temperature == 0

    def idle(self) -> Mapping[str, str]:
        """Return the filters of a draw where nothing is drawn."""
        why = "the likeliest token is taken (sampler.temperature=0)"
        return dict.fromkeys(("top_p", "top_k", "min_p"), why) if self.greedy else {}

    def check(self) -> None:
        """Raise ConfigError for a stop text that every answer has."""
        if "" in self.stop:
            raise ConfigError("stop: an empty text would end every answer at its first token; leave it out, or stop=[] for none.")

    @contextmanager
    def open(self, policy: ModelOnDisk, device: torch.device) -> Iterator["OpenHFSampler"]:
        """Load the model for the block; a model that was loaded before stays loaded."""
        with policy.lent(device) as loaded:
            yield self.of(loaded.model, loaded.tokenizer)

    def of(self, model: nn.Module, tokenizer: Any) -> "OpenHFSampler":
        """Return a sampler of a model that is loaded already, for instance of one that is being trained."""
        return OpenHFSampler(self, model, tokenizer)


class OpenHFSampler(OpenSampler):
    """A transformers model that answers prompts."""

    def __init__(self, settings: HFSampler, model: nn.Module, tokenizer: Any) -> None:
        self.settings, self.model, self.tokenizer = settings, model, tokenizer
        self.ends = ends_of(tokenizer, model)
        self.readable = readable_by(model)
        self._reason: str | None = None

    def draw(
        self, prompts: Sequence[Sequence[int]], seed: int, *, num_samples: int | None = None, keep: Keep = make_now
    ) -> list[list[Drawn]]:
        """Return the answers to each prompt; prompts of similar length share a batch.

        Each answer has its own random numbers, made from the seed, the prompt's tokens and the answer's number: whatever
        the batches are, it is the same, up to draws that the rounding of another batch shape decides.
        """
        wanted = num_samples or self.settings.num_samples
        count = 1 if self.settings.greedy else wanted
        answers: list[list[Drawn]] = [[] for _ in prompts]
        names = names_of(prompts)
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        per_batch = max(1, self.settings.batch_size // count)
        with few_threads(self.model), evaluating(self.model):
            for start in range(0, len(order), per_batch):
                chosen = order[start : start + per_batch]
                batch, numbers = [prompts[index] for index in chosen], [names[index] for index in chosen]
                drawn = [Drawn.of(*answer) for answer in keep(chosen, partial(self._draw, batch, count, seed, numbers))]
                for position, index in enumerate(chosen):
                    answers[index] = drawn[position * count : (position + 1) * count] * (wanted // count)
        return answers

    def tokens_in(self, batch: list[tuple[list[int], list[float]]]) -> int:
        """Return how many tokens the answers of a batch have."""
        return sum(len(ids) for ids, _ in batch)

    def texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """Return token ids of answers as text, up to the first stop text."""
        texts = super().texts(answers)
        for stop in self.settings.stop:
            texts = [text.partition(stop)[0].strip() for text in texts]
        return texts

    def has_ended(self, answer: Sequence[int]) -> bool:
        """Return whether an answer ended by an end token or a stop text."""
        return super().has_ended(answer) or self._stopped(list(answer))

    def _stopped(self, answer: list[int]) -> bool:
        """Return whether the newest tokens of an answer complete a stop text; a token has at least one byte of it."""
        if not self.settings.stop or answer[-1:] in ([], [NONE]):
            return False
        tail = self.tokenizer.decode(answer[-max(len(stop.encode()) for stop in self.settings.stop) - 1 :])
        return any(stop in tail for stop in self.settings.stop)

    def _draw(self, prompts: list[Sequence[int]], count: int, seed: int, names: list[str]) -> list[tuple[list[int], list[float]]]:
        """Return ids and log-probabilities of `count` answers to each prompt, those of one prompt side by side."""
        if self._reason is None and (reason := reason_against_sharing(self.model, prompts[0], self._longest(prompts))):
            say_once(f"  sampling with the library's cache, one copy of a prompt for each of its answers: {reason}")
            self._reason = reason
        self._reason = self._reason or ""
        if self._reason:
            return self._drawn(LibraryCache(self.model, prompts, count), prompts, count, seed, names)
        from dpo_lab.sampling.shared_prompts import SharedPrompts

        with sharing(self.model):
            cache = SharedPrompts(self.model, prompts, count, self.settings.max_new_tokens)
            return self._drawn(cache, prompts, count, seed, names)

    def _longest(self, prompts: Sequence[Sequence[int]]) -> int:
        return max(map(len, prompts)) + self.settings.max_new_tokens

    def _drawn(
        self, cache: Any, prompts: list[Sequence[int]], count: int, seed: int, names: list[str]
    ) -> list[tuple[list[int], list[float]]]:
        settings, device = self.settings, next(self.model.parameters()).device
        rows, ends = len(prompts) * count, torch.tensor(self.ends, device=device)
        steps = settings.max_new_tokens
        uniforms = None if settings.greedy else uniforms_of(seed, names, count, steps).to(device)
        position = torch.tensor([len(prompt) for prompt in prompts], device=device).repeat_interleave(count)
        tokens = torch.full((rows, steps), NONE, device=device)
        logps = torch.zeros(rows, steps, device=device)
        alive = torch.arange(rows, device=device)  # which answers the batch still holds
        done = torch.zeros(rows, dtype=torch.bool, device=device)
        logits = cache.read()
        seen = seen_in(prompts, count, logits) if settings.repetition_penalty != 1 else None
        choose = Chooser(self.filters(seen), greedy=settings.greedy)
        for step in range(steps):
            drawn, its_logps = choose(logits, None if uniforms is None else uniforms[alive, step])
            tokens[alive, step] = drawn.masked_fill(done, NONE)
            logps[alive, step] = its_logps.float()
            done |= torch.isin(drawn, ends) | (position >= self.readable)
            if settings.stop:
                done |= torch.tensor([self._stopped(row) for row in tokens[alive, : step + 1].tolist()], device=device)
            finished = int(done.sum())
            if step + 1 == steps or finished == len(done):
                break
            if seen is not None:
                seen[torch.arange(len(drawn), device=device), drawn] = True
            if finished * DROPPED >= len(done):
                keep = (~done).nonzero()[:, 0]
                if cache.select(keep):
                    alive, position, drawn, done = (part[keep] for part in (alive, position, drawn, done))
                    if seen is not None:
                        seen[: len(keep)] = seen[keep]
            logits = cache.step(drawn, position.clamp(max=self.readable - 1))
            position = position + 1
        lengths = (tokens != NONE).sum(1).tolist()
        return [
            (ids[:length], rounded(of_tokens[:length]))
            for ids, of_tokens, length in zip(tokens.tolist(), logps.tolist(), lengths, strict=True)
        ]

    def filters(self, seen: Tensor | None) -> list[Any]:
        """Return what changes logits before a token is chosen."""
        settings = self.settings
        penalty = [] if seen is None else [repetition_filter(seen, settings.repetition_penalty)]
        if settings.greedy:
            return penalty
        return penalty + library_filters(
            temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p, min_p=settings.min_p
        )


def readable_by(model: nn.Module) -> int:
    """Return how many positions a model reads."""
    config = getattr(language_model(model), "config", None)
    return getattr(config, "max_position_embeddings", None) or sys.maxsize


def seen_in(prompts: Sequence[Sequence[int]], count: int, logits: Tensor) -> Tensor:
    """Return which tokens each answer's prompt has, (rows, vocab)."""
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    for row, prompt in enumerate(prompts):
        seen[row * count : (row + 1) * count, torch.tensor(list(prompt), device=logits.device)] = True
    return seen


@contextmanager
def few_threads(model: nn.Module) -> Iterator[None]:
    """Compute on one thread for the block if the model is tiny.

    Its matrices are too small to share: two idle cores gain nothing (13.7 s against 12.0 s for 9000 film answers), and
    where another process wants the second core every operation waits for it (128 s against 5 s seen).
    """
    threads = torch.get_num_threads()
    if sum(weight.numel() for weight in model.parameters()) < TINY:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
