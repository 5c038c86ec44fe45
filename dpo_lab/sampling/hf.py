"""Sampling with a transformers model: each prompt is read once, its cache serves all its answers."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from dpo_lab.components import component
from dpo_lab.continuing import Keep, make_now
from dpo_lab.models.ends import ends_of
from dpo_lab.models.load import ModelOnDisk, evaluating
from dpo_lab.records import Drawn, rounded
from dpo_lab.sampling.base import OpenSampler, Sampler
from dpo_lab.scoring.logps import token_logps
from dpo_lab.seeding import derive

TINY = 5_000_000  # parameters
COMPACT_EVERY = 8  # steps between removals of finished answers from the batch


@component
class HFSampler(Sampler):
    """Draws answers token by token from a transformers model."""

    num_samples: PositiveInt = 5
    """Answers per prompt."""
    temperature: NonNegativeFloat = 1.0
    """Below 1 the likely tokens gain, above 1 they lose; 0 is greedy: the likeliest token each time, one answer per prompt."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest set of likeliest tokens with this much probability is drawn from (Holtzman et al. 2020); 1 is off."""
    max_new_tokens: PositiveInt = 256
    """An answer that has not ended by then is cut, and one that reaches the last position that the model reads."""
    batch_size: PositiveInt = 256
    """Answers that are drawn together."""

    @property
    def greedy(self) -> bool:
        """Whether no random number is drawn."""
        return self.temperature == 0

    @contextmanager
    def open(self, policy: ModelOnDisk, device: torch.device) -> Iterator["OpenHFSampler"]:
        """Load the model for the block; a model that was loaded before stays loaded."""
        with policy.lent(device) as loaded:
            yield self.of(loaded.model, loaded.tokenizer)

    def of(self, model: nn.Module, tokenizer: Any) -> "OpenHFSampler":
        """Return a sampler of a model that is loaded already, for instance of one that is being trained."""
        return OpenHFSampler(self, model, tokenizer)

    def choice(self, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """Return the function that draws one token for each row of logits."""
        if self.greedy:
            return lambda logits: logits.argmax(-1)
        filters = self._filters()
        return lambda logits: torch.multinomial(filters(logits).softmax(-1), 1, generator=generator)[:, 0]

    def _filters(self) -> Callable[[Tensor], Tensor]:
        """Return the transformation of logits that temperature and top_p ask for."""
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        chain: Any = LogitsProcessorList([TemperatureLogitsWarper(float(self.temperature))] if self.temperature != 1 else [])
        if self.top_p < 1:
            chain.append(TopPLogitsWarper(self.top_p))
        no_ids = torch.empty(0, 0, dtype=torch.long)  # neither looks at the tokens before
        return lambda logits: chain(no_ids, logits)


class OpenHFSampler(OpenSampler):
    """A transformers model that answers prompts."""

    def __init__(self, settings: HFSampler, model: nn.Module, tokenizer: Any) -> None:
        self.settings, self.model, self.tokenizer = settings, model, tokenizer
        self.ends = ends_of(tokenizer, model)

    def draw(
        self, prompts: Sequence[Sequence[int]], seed: int, *, num_samples: int | None = None, keep: Keep = make_now
    ) -> list[list[Drawn]]:
        """Return the answers to each prompt; prompts of similar length share a batch, so that little is padded."""
        wanted = num_samples or self.settings.num_samples
        count = 1 if self.settings.greedy else wanted
        answers: list[list[Drawn]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        per_batch = max(1, self.settings.batch_size // count)
        with few_threads(self.model), evaluating(self.model):
            for start in range(0, len(order), per_batch):
                chosen = order[start : start + per_batch]
                batch, its_seed = [prompts[index] for index in chosen], derive(seed, "answers", start)
                drawn = [Drawn.of(*answer) for answer in keep(chosen, partial(self._draw, batch, count, its_seed))]
                for position, index in enumerate(chosen):
                    answers[index] = drawn[position * count : (position + 1) * count] * (wanted // count)
        return answers

    def _draw(self, prompts: list[Sequence[int]], count: int, seed: int) -> list[tuple[list[int], list[float]]]:
        """Return ids and log-probabilities of `count` answers to each prompt, those of one prompt side by side."""
        settings, model = self.settings, cast("Any", self.model)
        device = next(model.parameters()).device
        ends = torch.tensor(self.ends, device=device)
        readable = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
        choice = settings.choice(torch.Generator(device).manual_seed(seed))
        ids, mask = _left_padded(prompts, device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        out = model(input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, logits_to_keep=1)
        cache_name = "cache" if "cache" in out else "past_key_values"  # its name before transformers 5.24, which warns of it
        cache, logits = out[cache_name], out.logits[:, -1]
        cache.batch_repeat_interleave(count)
        logits, mask, position = (part.repeat_interleave(count, 0) for part in (logits, mask, position[:, -1:]))

        rows = len(prompts) * count
        tokens = torch.full((rows, settings.max_new_tokens), -1, device=device)
        logps = torch.zeros(rows, settings.max_new_tokens, device=device)
        alive = torch.arange(rows, device=device)  # which answers the batch still holds
        done = torch.zeros(rows, dtype=torch.bool, device=device)
        for step in range(settings.max_new_tokens):
            logits = logits.float()
            drawn = choice(logits)
            tokens[alive, step] = drawn.masked_fill(done, -1)
            logps[alive, step] = token_logps(logits, drawn)
            done |= torch.isin(drawn, ends) | (position[:, 0] + 1 >= readable)
            if step + 1 == settings.max_new_tokens or bool(done.all()):
                break
            mask, position = torch.cat([mask, mask.new_ones(len(alive), 1)], 1), (position + 1).clamp(max=readable - 1)
            if step % COMPACT_EVERY == COMPACT_EVERY - 1 and bool(done.any()):
                keep = (~done).nonzero()[:, 0]
                cache.batch_select_indices(keep)
                alive, mask, position, drawn, done = (part[keep] for part in (alive, mask, position, drawn, done))
            known = {cache_name: cache, "attention_mask": mask, "position_ids": position}
            out = model(input_ids=drawn[:, None], use_cache=True, **known)
            logits = out.logits[:, -1]
        lengths = (tokens >= 0).sum(1).tolist()
        return [
            (ids[:length], rounded(of_tokens[:length]))
            for ids, of_tokens, length in zip(tokens.tolist(), logps.tolist(), lengths, strict=True)
        ]


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


def _left_padded(prompts: list[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask of shape (prompts, time), the last token of every prompt in the last column."""
    time = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), time, dtype=torch.long)
    mask = torch.zeros(len(prompts), time, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, time - len(prompt) :] = torch.tensor(prompt)
        mask[row, time - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
