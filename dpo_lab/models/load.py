"""Loading and saving: a directory in Hugging Face layout, or a Hub id, to a model and back."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_lab.artifacts import Artifact, refuse_damage
from dpo_lab.components import ConfigError, RunError
from dpo_lab.hub import innermost
from dpo_lab.models.adapted import held_in
from dpo_lab.models.adapter import load_adapter, save_adapter
from dpo_lab.models.directory import ADAPTER_CONFIG, CONFIG, GENERATION, base_of, ends_in, refuse_missing_base
from dpo_lab.models.hub import fetched
from dpo_lab.models.soft_cap import with_soft_cap
from dpo_lab.models.storage import Storage
from dpo_lab.models.tokenizer import completed, refuse_unembedded
from dpo_lab.models.write import write_beside, write_beside_adapter

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the library warns on every fork otherwise

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer."""

    model: nn.Module
    tokenizer: Any


class ModelOnDisk:
    """A model that is loaded when it is first used, and then once."""

    def __init__(
        self,
        path: str,
        id: str,  # noqa: A002
        storage: Storage = Storage(),  # noqa: B008
        *,
        given: bool = False,
        base: str | None = None,
    ) -> None:
        self.path, self.id, self.storage, self.base = path, id, storage, base
        self.given = given
        """Whether somebody gave it, who may have changed it since it was written; else this project made it."""
        self._loaded: Loaded | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to load the model itself."""
        return {**vars(self), "_loaded": None}

    def trained(self, path: str, id: str) -> "ModelOnDisk":  # noqa: A002
        """Return what training has made of this model: its base, if it has one, is held as here."""
        return ModelOnDisk(path, id, self.storage, base=self.base or base_of(self.path))

    def load(self, device: torch.device) -> Loaded:
        """Load a fresh copy on a device, for callers that modify it; RunError if its directory is damaged."""
        if self.given:
            Artifact.open(Path(self.path))  # what is made with it is made from it
        else:
            refuse_damage(Path(self.path))
        return load_model(self.path, self.storage, device, self.base)

    def loaded(self, device: torch.device) -> Loaded:
        """Return the model, on a device, and its tokenizer."""
        if self._loaded is None:
            self._loaded = self.load(device)
        else:
            Artifact.open(Path(self.path))  # what is made with it is made from it
        return self._loaded

    @contextmanager
    def lent(self, device: torch.device) -> Iterator[Loaded]:
        """Yield the model and its tokenizer; forget them when the block ends, unless the model was loaded before."""
        keep = self._loaded is not None
        try:
            yield self.loaded(device)
        finally:
            if not keep:
                self.release()

    def release(self) -> None:
        """Forget the loaded model."""
        self._loaded = None


class ModelInMemory(ModelOnDisk):
    """A model that is trained at the moment, where one on disk is asked for: it is lent as it is, and stays loaded."""

    def __init__(self, model: nn.Module, tokenizer: Any, name: str) -> None:
        super().__init__(name, name)
        self._model = Loaded(model, tokenizer)

    def load(self, device: torch.device) -> Loaded:
        """Raise RunError: a copy for changing is made from the disk."""
        raise RunError(f"{self.path} is in memory alone: no copy of it can be loaded.")

    def loaded(self, device: torch.device) -> Loaded:
        """Return the model, wherever it is, and its tokenizer."""
        return self._model


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """Return the tokenizer of a directory or Hub id, or of its base for an adapter without one; ConfigError if there is none."""
    return completed_tokenizer(path, revision)[0]


def completed_tokenizer(path: str, revision: str | None = None) -> tuple[Any, tuple[str, ...]]:
    """Return a tokenizer that has what training needs, and what it lacked before, one line each."""
    from transformers import AutoTokenizer

    if (Path(path) / ADAPTER_CONFIG).exists() and not (Path(path) / "tokenizer_config.json").exists():
        return completed_tokenizer(base_of(path), revision)
    with plain_errors(path):
        files = fetched(path, revision, small=True)
        tokenizer = AutoTokenizer.from_pretrained(str(files), trust_remote_code=False)
    named = any(
        (files / name).is_file() for name in (CONFIG, GENERATION)
    )  # an adapter of ours has the latter, its base may be moved
    of_model = files if named else fetched(base_of(path), revision, small=True)
    return tokenizer, completed(tokenizer, path, ends_in(of_model))


def load_model(
    path: str,
    storage: Storage = Storage(),  # noqa: B008
    device: torch.device = CPU,
    base_path: str | None = None,
) -> Loaded:
    """Return the model and the tokenizer of a directory or Hub id, in train mode.

    A directory that holds a PEFT adapter is loaded as its base with the adapter on it.

    Args:
        base_path: directory or Hub id of an adapter's base; None: the one that the adapter names.

    Raises:
        ConfigError: if there is no such model, naming what was looked for and what to change.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    _quiet()
    directory, revision = Path(path), storage.revision
    if (directory / ADAPTER_CONFIG).exists():
        refuse_missing_base(path, base_path or base_of(path), "Put it back, or correct base_model_name_or_path in a copy.")
        base = load_model(base_path or base_of(path), storage, device)
        adapted = load_adapter(base.model, directory)
        if storage.adapter_dtype != torch.float32:
            held_in(adapted, storage.adapter_dtype)
        return Loaded(adapted.train(), load_tokenizer(path, revision))
    tokenizer = load_tokenizer(path, revision)
    quantised = storage.quant.config(storage.dtype)
    files = str(fetched(path, revision))
    with plain_errors(path), _without_reports():
        config = without_dropout(AutoConfig.from_pretrained(files, trust_remote_code=False))
        library: Any = AutoModelForCausalLM  # its types do not know output_loading_info
        model, info = library.from_pretrained(
            files,
            config=config,
            dtype=storage.dtype,
            trust_remote_code=False,
            use_safetensors=True,  # a pickle runs code when it is read
            quantization_config=quantised,
            output_loading_info=True,
            device_map={"": device} if quantised else None,  # 8-bit weights cannot be moved afterwards
        )
    if lacking := sorted(info["missing_keys"]):  # the library would only warn, and start them random
        raise ConfigError(
            f"model.path={path}: {len(lacking)} of the model's weights are in none of its files, {lacking[0]} for instance, and "
            "would start random. Its config.json belongs to another model, or it was saved in part: copy or download it again."
        )
    refuse_unembedded(tokenizer, model.get_input_embeddings().num_embeddings, path)
    model = storage.quant.made_ready(model if quantised else model.to(device))
    # from_pretrained leaves eval mode, and Lightning keeps it: dropout and activation checkpointing would stay off
    return Loaded(with_soft_cap(model).train(), tokenizer)


def without_dropout(config: Any) -> Any:
    """Return a model's configuration with every dropout at 0: the reference has none, and micro-batches must not matter.

    >>> from transformers import GPT2Config
    >>> without_dropout(GPT2Config(attn_pdrop=0.1)).attn_pdrop
    0.0
    """
    for name, value in list(vars(config).items()):
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
    return config


def save_model(model: Any, tokenizer: Any, directory: Path, base_path: str, revision: str | None = None) -> None:
    """Write a model in Hugging Face layout: its adapter in PEFT's format if it has one, else all weights.

    Args:
        base_path: directory or Hub id of the base; empty where there is none.
        revision: commit or tag of a base on the Hub.
    """
    from transformers import GenerationConfig

    _quiet()
    if save_adapter(model, directory, base_path, revision):
        write_beside_adapter(model, tokenizer, directory, base_path, revision)
        return
    settings, model.generation_config = model.generation_config, GenerationConfig()  # published ones may be refused when saved
    try:
        model.save_pretrained(str(directory))
    finally:
        model.generation_config = settings
    dtype, tied = str(model.dtype).removeprefix("torch."), bool(model.config.tie_word_embeddings)
    write_beside(model, tokenizer, directory, base_path, revision, dtype=dtype, tied=tied)


def weights_digest(model: nn.Module) -> str:
    """Return a digest of every weight and buffer that is kept with the model: one changed bit changes it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}".encode())
        digest.update(data.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Switch dropout and gradients off for the block and restore the mode.

    generate() in train mode under activation checkpointing drops the cache and returns wrong tokens before transformers 5.24:
    https://github.com/huggingface/transformers/issues/36051. With 5.24 as the oldest version, train mode would do as well.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(was_training)


@contextmanager
def plain_errors(path: str) -> Iterator[None]:
    """Turn the library's errors about files and connections into one message."""
    try:
        yield
    except (ConfigError, torch.OutOfMemoryError):
        raise
    except (OSError, ValueError, ImportError, RuntimeError) as error:  # the last: weights of another shape
        raise ConfigError(
            f"model.path={path}: no model could be loaded from it ({innermost(error)}). "
            "Give a directory with config.json, tokenizer and safetensors, or a Hub id that this machine can reach; "
            "model=tiny needs neither."
        ) from error


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep the library from printing what is wrong with a model's weights: that is said in one line of ours."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # the parts show their own
