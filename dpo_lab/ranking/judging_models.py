"""The models that rankers read, as directories or on the Hub: whether one is usable, which one it is, and what it takes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.hub import HUB_ID
from dpo_lab.models.classifier import parameters_by_config
from dpo_lab.models.directory import (
    ADAPTER_CONFIG,
    TOKENIZERS,
    base_of,
    parameters_in,
    read_json,
    refuse_missing_base,
    refuse_unusable,
    refuse_unusable_adapter,
)
from dpo_lab.models.given import digests_of
from dpo_lab.models.hub import commit_of, entry_of, snapshot


def is_adapter(path: str) -> bool:
    """Return whether a path is the directory of an adapter in PEFT's format."""
    return (Path(path) / ADAPTER_CONFIG).exists()


def refuse_unusable_model(path: str, key: str) -> None:
    """Raise ConfigError if a directory holds no whole model; a Hub id is asked for when its files are needed.

    Args:
        key: the setting that names the model, for messages.
    """
    with named(key):
        if is_adapter(path):
            refuse_unusable_adapter(Path(path))
            refuse_missing_base(path, base_of(path), "Put it back, or correct base_model_name_or_path in a copy.")
            path = base_of(path)
        if Path(path).is_dir():
            refuse_unusable(Path(path), "Copy or download it again.")
        elif not HUB_ID.fullmatch(path):
            raise ConfigError(f"{key}={path} is not a directory (in {Path.cwd()}) and not a Hub id, which is owner/name.")


def vocabulary_in(directory: Path) -> Any:
    """Return the tokens of a directory's tokenizer.json, added ones left out; None without such a file."""
    return read_json(directory, TOKENIZERS[0], "")["model"].get("vocab") if (directory / TOKENIZERS[0]).is_file() else None


def identity_of(path: str, revision: str | None) -> dict[str, Any]:
    """Return what says which weights these are: digests of a directory's files, and of an adapter's base; or a commit."""
    own: dict[str, Any] = {"files": digests_of(Path(path))} if Path(path).is_dir() else {"commit": commit_of(path, revision)}
    return {**own, "base": identity_of(base_of(path), revision)} if is_adapter(path) else own


def parameters_of(path: str, revision: str | None = None, *, classifier: bool = False) -> int:
    """Return how many weights a model has, that of an adapter's base included.

    A directory's own files say it; of a model on the Hub its configuration does, from the cache or fetched: no weight is.

    Args:
        classifier: whether it ends in the labels of a sequence classifier, in place of a vocabulary.

    Raises:
        ConfigError: if a model on the Hub cannot be asked and the cache has no configuration, or the library does not know it.
    """
    own = sum(path.stat().st_size for path in Path(path).glob("adapter_model.safetensors")) // 4
    if is_adapter(path):
        return own + parameters_of(base_of(path), revision)
    if Path(path).is_dir():
        return parameters_in(Path(path))
    return parameters_by_config(snapshot(entry_of(path, revision), ("config.json",)), classifier=classifier)


def known_or_why(size: Callable[[], int]) -> tuple[int, str]:
    """Return what `parameters_of` says and an empty text; of a size that is not known 0 and why."""
    try:
        return size(), ""
    except ConfigError as error:
        return 0, str(error)


@contextmanager
def named(key: str) -> Iterator[None]:
    """Let messages of the block name the setting of a ranker in place of model.path."""
    try:
        yield
    except ConfigError as error:
        if "model.path=" not in str(error):
            raise
        raise ConfigError(str(error).replace("model.path=", f"{key}=")) from error
