"""What stands beside a model's weights in Hugging Face layout, of a policy and of an export: configuration, generation
settings, tokenizer. They agree on the tokens that end an answer, and transformers 4 reads them too."""

import copy
import json
from pathlib import Path
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.models.directory import CONFIG
from dpo_lab.models.ends import ends_of
from dpo_lab.models.hub import fetched
from dpo_lab.models.tokenizer import write_tokenizer

GENERATION = "generation_config.json"
NOT_TAKEN_OVER = ("quantization_config", "auto_map")
"""Of a base's configuration: its weights are plain now, and its own code is neither run nor copied."""
NAMES_BEFORE: dict[str, dict[str, str]] = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "gpt_neox_japanese": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "modernbert-decoder": {"rope_theta": "global_rope_theta", "rope_local_base_freq": "local_rope_theta"},
}
"""What version 4 calls rotary parameters where it has another name for them."""


def write_beside(model: Any, tokenizer: Any, directory: Path, base: str, revision: str | None, *, dtype: str, tied: bool) -> None:
    """Write all that belongs to plain weights.

    The configuration and the generation settings are the base's own files as they are, but for the end tokens: loading has
    set dropout and number format.

    Args:
        base: directory or Hub id of the base; empty where there is none.
        dtype: number format of the weights.
        tied: whether input embeddings and head are one weight.
    """
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    source = _files_of(base, revision)
    write_tokenizer(tokenizer, directory, source)
    _write_generation(plain, tokenizer, directory, source)
    about = _read(source, CONFIG)
    if about.get("model_type") != plain.config.model_type:  # none, or the whole of which the library took the text model
        about = json.loads(plain.config.to_json_string())
    for name in NOT_TAKEN_OVER:
        about.pop(name, None)
    about |= {"architectures": [type(plain).__name__], "tie_word_embeddings": tied, "dtype": dtype, "torch_dtype": dtype}
    _name_ends(about, plain.config, ends_of(tokenizer, plain))
    _write(directory / CONFIG, with_older_names(about, plain.config))  # last: before it, nothing loads the directory


def write_beside_adapter(model: Any, tokenizer: Any, directory: Path, base: str, revision: str | None) -> None:
    """Write what belongs to an adapter: the tokenizer, and generation settings that end where the adapter was trained to end."""
    source = _files_of(base, revision)
    write_tokenizer(tokenizer, directory, source)
    _write_generation(model.get_base_model(), tokenizer, directory, source)


def _files_of(base: str, revision: str | None) -> Path | None:
    """Return the directory of a base's small files; None where there is no base, or none any more.

    A base that was moved while it was trained must not cost the training: the loaded model says the same.
    """
    try:
        return fetched(base, revision, small=True) if base else None
    except ConfigError:
        return None


def _write_generation(plain: Any, tokenizer: Any, directory: Path, source: Path | None) -> None:
    """Write the base's generation settings, those of its file as they stand there, with every end token."""
    settings = getattr(plain, "generation_config", None)
    if settings is None:
        return
    about = _read(source, GENERATION) or json.loads(settings.to_json_string())
    about.pop("_from_model_config", None)  # else version 4 may take the configuration instead
    about["eos_token_id"] = _one_or_several(ends_of(tokenizer, plain))
    _write(directory / GENERATION, about)


def _name_ends(about: dict[str, Any], config: Any, ends: list[int]) -> None:
    """Name the end tokens in a configuration and in that of the text model within it."""
    for part, of in ((about, config), (about.get("text_config"), config.get_text_config(decoder=True))):
        if isinstance(part, dict):
            part["eos_token_id"] = _one_or_several(ends if takes(of, ends) else ends[:1])


def takes(config: Any, ends: list[int]) -> bool:
    """Return whether a configuration's class takes several end tokens; a few are declared to have one."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        copy.copy(config).eos_token_id = _one_or_several(ends)
    except StrictDataclassError:
        return False
    return True


def _one_or_several(ends: list[int]) -> int | list[int]:
    return ends if ends[1:] else ends[0]


def with_older_names(about: dict[str, Any], config: Any) -> dict[str, Any]:
    """Return a configuration that names its rotary positions as transformers 4 does too.

    Version 5 writes `rope_parameters` alone, of which 4 knows nothing: it would take its default base of 10 000 and say nothing,
    where Mistral-7B-Instruct-v0.2 has 1 000 000. Version 5 reads both, but for a few models that came with it.

    Args:
        config: one of the class that reads it.
    """
    if isinstance(about.get("text_config"), dict):
        about = {**about, "text_config": with_older_names(about["text_config"], config.get_text_config(decoder=True))}
    names = NAMES_BEFORE.get(about.get("model_type", ""), {})
    rotary, added = about.get("rope_parameters") or {}, dict[str, Any]()
    if "sliding_attention" in rotary and "full_attention" in rotary:  # a kind of layer each, as Gemma-3 has
        added[names.get("rope_local_base_freq", "rope_local_base_freq")] = rotary["sliding_attention"].get("rope_theta")
        rotary = rotary["full_attention"]
    if "rope_theta" not in rotary:
        return about
    added |= {names.get(name, name): rotary[name] for name in ("rope_theta", "partial_rotary_factor") if name in rotary}
    scaled = rotary.get("rope_type", "default") != "default"
    added["rope_scaling"] = {name: value for name, value in rotary.items() if name != "rope_theta"} if scaled else None
    named = {**about, **added}
    return named if _rotary(config, named) == _rotary(config, about) else about


def _rotary(config: Any, about: dict[str, Any]) -> Any:
    """Return the rotary positions that a configuration's class reads; None where it has none or refuses the whole."""
    try:
        return type(config).from_dict(copy.deepcopy(about)).rope_parameters
    except Exception:  # whatever a class checks
        return None


def _read(directory: Path | None, name: str) -> dict[str, Any]:
    """Return the object in a file of a directory; empty if there is none that can be read."""
    try:
        found = json.loads((directory / name).read_text(encoding="utf-8")) if directory else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, about: dict[str, Any]) -> None:
    path.write_text(json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
