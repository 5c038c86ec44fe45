"""The tokens that end an answer, from every place that names one: tokenizer, configuration, generation settings."""

from collections.abc import Iterable
from typing import Any


def end_ids(tokenizer: Any, *settings: Any) -> list[int]:
    """Return the ids that end an answer, each once: first the tokenizer's own, with which answers are trained.

    Args:
        settings: configurations or generation settings of a model; None, one id or several stand there as `eos_token_id`.

    >>> from types import SimpleNamespace as Named
    >>> end_ids(Named(eos_token_id=7), Named(eos_token_id=[2, 7]), Named(eos_token_id=None), Named(eos_token_id=3))
    [7, 2, 3]
    """
    named = [getattr(each, "eos_token_id", None) for each in (tokenizer, *settings)]
    several = [each if isinstance(each, Iterable) else [each] for each in named]
    return list(dict.fromkeys(int(token) for each in several for token in each if token is not None))


def remember_ends(tokenizer: Any, *settings: Any) -> None:
    """Let a tokenizer know every id that ends an answer, its own before `completed` replaces that one among them.

    A tokenizer's file may name an end that no other file does; sampling, what is written and the text of answers all ask here.
    """
    tokenizer.ends_of_its_model = end_ids(tokenizer, *settings)


def ends_known(tokenizer: Any) -> list[int]:
    """Return the ids that end an answer as far as a tokenizer knows them: its own first, then those of its model."""
    return list(dict.fromkeys([*end_ids(tokenizer), *getattr(tokenizer, "ends_of_its_model", ())]))


def ends_of(tokenizer: Any, model: Any) -> list[int]:
    """Return the ids that end an answer of a loaded model: those of its tokenizer, its configuration, its generation settings."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = plain.config
    named = end_ids(tokenizer, config, config.get_text_config(decoder=True), getattr(plain, "generation_config", None))
    return list(dict.fromkeys([*named, *ends_known(tokenizer)]))
