"""What is found out and said of pretrained weights before the long work: whether they are whole, and how large."""

from collections.abc import Sequence
from pathlib import Path

from dpo_lab.components import Component, ConfigError, parts_of
from dpo_lab.hub_connection import ask_hub
from dpo_lab.models.directory import (
    ADAPTER_CONFIG,
    CONFIG,
    base_of,
    parameters_in,
    positions_in,
    read_json,
    refuse_missing_base,
    refuse_unusable_adapter,
)
from dpo_lab.models.hub import checked
from dpo_lab.models.load import ModelOnDisk, completed_tokenizer, load_tokenizer
from dpo_lab.models.spec import ModelSpec
from dpo_lab.models.tokenizer import has_own_template, refuse_unembedded
from dpo_lab.records import PreferencePair


def refuse_unusable_model(spec: ModelSpec, max_length: int) -> None:
    """Raise ConfigError if the pretrained model is missing, gated, not whole, or shorter than the rows asked for."""
    model = spec.pretrained
    if model is None:
        return
    if adapts := (Path(model.path) / ADAPTER_CONFIG).exists():
        refuse_unusable_adapter(Path(model.path))
        where = f"Correct base_model_name_or_path in {Path(model.path) / ADAPTER_CONFIG}, in a copy if a run has made it."
        refuse_missing_base(f"model.path={model.path}", base_of(model.path), where)
    try:
        directory = checked(base_of(model.path), model.revision, gated=model.gated)
    except ConfigError as error:
        if not adapts:
            raise
        where = f"base_model_name_or_path in {Path(model.path) / ADAPTER_CONFIG}"
        raise ConfigError(f"{error} It is the base of model.path={model.path}: correct {where} if it is elsewhere.") from error
    rows, positions = read_json(directory, CONFIG, "").get("vocab_size"), positions_in(directory)
    tokenizer = load_tokenizer(model.path, model.revision)
    if rows:
        refuse_unembedded(tokenizer, rows, model.path)
    if positions and max_length > positions:
        raise ConfigError(
            f"data.max_length={max_length}: {model.label} was made for rows of at most {positions} tokens. "
            f"Use recipe.max_length={positions}."
        )


def ask_hub_early(*parts: Component) -> None:
    """Ask the Hub in the background whether it answers, if a model or data set is read from it: what follows takes seconds."""
    origins = [getattr(below, name) for part in parts for _, below in parts_of(part) for name in below.on_hub]
    if any(not Path(path).is_dir() for path in origins):
        ask_hub()


def parameters_of(model: ModelSpec) -> int | None:
    """Return how many weights a pretrained model has, None where that is not known before it is loaded."""
    if model.pretrained is None:
        return None
    directory = Path(base_of(model.pretrained.path))
    return parameters_in(directory) if directory.is_dir() else model.pretrained.parameters


def named(base: ModelOnDisk) -> str:
    """Return a pretrained model as the screen names it: a Hub model with its commit, so that it can be asked for again."""
    commit = base.storage.revision
    return base.path if commit is None or Path(base.path).is_dir() else f"{base.path} at revision {commit}"


def notes_on(base: ModelOnDisk, pairs: Sequence[PreferencePair]) -> tuple[str, ...]:
    """Return what a reader should know of a given model and of the pairs it is trained on, one line each."""
    return (*tokenizer_notes(base), *template_notes(base, pairs))


def tokenizer_notes(base: ModelOnDisk) -> tuple[str, ...]:
    """Return what the tokenizer lacked, one line each."""
    return completed_tokenizer(base.path, base.storage.revision)[1]


def template_notes(base: ModelOnDisk, pairs: Sequence[PreferencePair]) -> tuple[str, ...]:
    """Return one line if pairs are plain text although the model has a chat template: nothing else would show it."""
    plain = sum(pair.prompt.rendered for pair in pairs)
    if not plain or not has_own_template(load_tokenizer(base.path, base.storage.revision)):
        return ()
    return (
        f"{plain} of {len(pairs)} pairs are plain text: the chat template of {named(base)} is not used for them. If a column "
        'holds the prompt, data.columns.text=chat uses it; else write each prompt as turns, [{"role": "user", "content": ...}].',
    )
