"""An answer as it is drawn, token by token, for a person who reads along."""

from collections.abc import Iterator, Sequence

import torch

from dpo_lab.models.load import evaluating
from dpo_lab.sampling.choice import Chooser, names_of, uniforms_of
from dpo_lab.sampling.hf import OpenHFSampler, few_threads, seen_in
from dpo_lab.sampling.library_cache import LibraryCache

UNFINISHED = "�"
"""Stands in the text where the bytes of a character are not complete yet."""


def stream(model: OpenHFSampler, prompt: Sequence[int], seed: int) -> Iterator[str]:
    """Yield the text of one answer so far, longer each time; the last is that of `model.draw([prompt], seed, num_samples=1)`.

    Args:
        prompt: token ids, as the chat template renders it for generation.
        seed: equal seeds give equal answers on one machine.
    """
    settings, device = model.settings, next(model.model.parameters()).device
    cache = LibraryCache(model.model, [prompt], 1)
    uniforms = None if settings.greedy else uniforms_of(seed, names_of([prompt]), 1, settings.max_new_tokens).to(device)
    drawn: list[int] = []
    for step in range(settings.max_new_tokens):
        with few_threads(model.model), evaluating(model.model):
            if step == 0:
                logits = cache.read()
                seen = seen_in([prompt], 1, logits) if settings.repetition_penalty != 1 else None
                choose = Chooser(model.filters(seen), greedy=settings.greedy)
            else:
                position = len(prompt) + step - 1
                logits = cache.step(torch.tensor(drawn[-1:], device=device), torch.tensor([position], device=device))
            token = int(choose(logits, None if uniforms is None else uniforms[:, step])[0])
        if seen is not None:
            seen[0, token] = True
        drawn.append(token)
        (text,) = model.texts([drawn])
        if not text.endswith(UNFINISHED):
            yield text
        if model.has_ended(drawn) or len(prompt) + step >= model.readable:
            break
    yield model.texts([drawn])[0]
