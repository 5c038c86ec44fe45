"""Sequence classifiers: a network with its tokenizer, from a directory in Hugging Face layout, and how large a model is."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dpo_lab.components import ConfigError
from dpo_lab.hub import innermost
from dpo_lab.models.directory import CONFIG, read_json, tensors_of
from dpo_lab.models.soft_cap import with_soft_cap


def load_classifier(directory: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a sequence classifier in eval mode and its tokenizer.

    Raises:
        ConfigError: if the directory holds none, or not all of its weights in safetensors.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    library: Any = AutoModelForSequenceClassification  # its types do not know output_loading_info
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
        with silent_library():
            model, info = library.from_pretrained(
                str(directory), dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise ConfigError(
            f"ranker.path={directory}: no reward model could be loaded from it ({innermost(error)}). Give a sequence classifier "
            "that transformers knows, with config.json, tokenizer and safetensors."
        ) from error
    if lacking := sorted(info["missing_keys"]):  # the library would only warn, and start them random
        raise ConfigError(not_whole(directory, lacking[0]))
    if not tokenizer.chat_template:
        raise ConfigError(without_template(directory))
    return with_soft_cap(model.to(device)).eval(), tokenizer


def refuse_language_model(directory: Path) -> None:
    """Raise ConfigError if the files of a directory, weights aside, say that it scores no answers: before any is drawn for it."""
    kinds = read_json(directory, CONFIG, "").get("architectures") or []
    if kinds and all(str(kind).endswith("ForCausalLM") for kind in kinds):
        head = "score.weight"  # of every decoder of the library that ends in labels
        if all(name != head for name, _ in tensors_of(directory)):
            raise ConfigError(not_whole(directory, head))
    config = directory / "tokenizer_config.json"
    written = config.is_file() and read_json(directory, config.name, "").get("chat_template")
    if not written and not any(directory.glob("chat_template.*")):
        raise ConfigError(without_template(directory))


def not_whole(directory: Path, lacking: str) -> str:
    """Return the message about a directory that lacks a weight of a classifier."""
    return (
        f"ranker.path={directory} is not a whole sequence classifier: {lacking} is in none of its files and would start "
        "random. Use a reward model, for instance ranker.path=Skywork/Skywork-Reward-V2-Qwen3-0.6B"
    )


def without_template(directory: Path) -> str:
    """Return the message about a classifier whose tokenizer turns no conversation into text."""
    return (
        f"ranker.path={directory}: its tokenizer has no chat template, so how it reads answers is unknown. "
        "Write the one of its model card into chat_template.jinja in that directory."
    )


@cache
def parameters_by_config(directory: Path, *, classifier: bool) -> int:
    """Return how many weights a model of a directory's configuration has: it is built without numbers.

    Args:
        classifier: whether it ends in the labels of a sequence classifier, in place of a vocabulary.

    Raises:
        ConfigError: if the library does not know such a configuration.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    kind: Any = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    try:
        config = AutoConfig.from_pretrained(str(directory), trust_remote_code=False)
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
        raise ConfigError(f"its configuration says no size ({innermost(error)})") from error
    return sum(weight.numel() for weight in model.parameters())


@contextmanager
def silent_library() -> Iterator[None]:
    """Keep transformers from printing its bar and its report of missing weights, which are refused in one line here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
