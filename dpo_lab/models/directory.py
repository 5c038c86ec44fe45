"""A model's directory in Hugging Face layout: whether it is whole, and what its files say before any weight is read."""

import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.hub import HUB_ID, LFS_POINTER
from dpo_lab.models.ends import end_ids
from dpo_lab.run_directory import RUN

GENERATION = "generation_config.json"
CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
MAX_HEADER = 100_000_000  # bytes; the format's own limit


def base_of(path: str) -> str:
    """Return the model that an adapter's directory sits on; the path itself where it holds no adapter."""
    config = Path(path) / ADAPTER_CONFIG
    if not config.exists():
        return str(Path(path).resolve()) if Path(path).exists() else path
    if not (base := json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")):
        raise ConfigError(f"{config} names no base: write the model that the adapter was made on as base_model_name_or_path.")
    return base_of(_beside(Path(path), str(base)))


def _beside(adapter: Path, base: str) -> str:
    """Return where a base is that stood in the same outputs directory as an adapter on it: beside the adapter, else where it was.

    The base is written down as an absolute path, for plain peft, and an outputs directory may be moved or copied. An artifact is
    known by the id that its name ends with.
    """
    kind, name = ("", *Path(base).parts)[-2:]
    place = adapter.resolve().parent.parent / kind / name
    try:
        found = str(json.loads((place / "manifest.json").read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return base
    return str(place) if Path(base).is_absolute() and found.startswith(name.rpartition("-")[2]) else base


def refuse_missing_base(adapter: str, base: str, remedy: str) -> None:
    """Raise ConfigError if the base of an adapter is neither a directory nor may be a Hub id.

    Args:
        remedy: what to type if the base is elsewhere by now.
    """
    if not Path(base).is_dir() and not HUB_ID.fullmatch(base):
        raise ConfigError(f"{adapter} is an adapter on {base}, as its {ADAPTER_CONFIG} says, which is not there. {remedy}")


def refuse_unusable(directory: Path, again: str) -> None:
    """Raise ConfigError if a directory does not hold configuration, tokenizer and whole weights in safetensors.

    Args:
        again: how to get the files whole.
    """
    refuse_around_model(directory)
    config = read_json(directory, CONFIG, again)
    if "auto_map" in config and not _known(config.get("model_type")):
        raise ConfigError(
            f"model.path={directory} needs its own Python code, which is never run (trust_remote_code=false). "
            "Use a model that transformers knows by itself."
        )
    if config.get("is_encoder_decoder"):
        raise ConfigError(
            f"model.path={directory} is an encoder with a decoder ({config.get('model_type')}), no causal language model. "
            "Use one that writes on from its prompt."
        )
    if "quantization_config" in config:
        how = dict(config["quantization_config"] or {}).get("quant_method", "an unnamed method")
        raise ConfigError(
            f"model.path={directory} holds weights that are quantised already ({how}, config.json). "
            "Use the model that they were made from; quant=4bit or quant=8bit quantises it while it is loaded."
        )
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise ConfigError(
            f"model.path={directory} has no tokenizer: none of {', '.join(TOKENIZERS)} is there. {again} "
            "Or copy those of the model that it was trained from into it."
        )
    if (directory / TOKENIZERS[0]).is_file():
        read_json(directory, TOKENIZERS[0], again)
    for name in weight_files(directory, again):
        header_of(directory / name, again)


def refuse_around_model(directory: Path) -> None:
    """Raise ConfigError if a directory holds no model itself, but names or holds one: a run, or a directory of checkpoints."""
    run = directory / RUN
    if run.is_file():
        lineage = json.loads(run.read_text(encoding="utf-8")).get("lineage") or []
        if trained := [entry for entry in lineage if entry["kind"] == "policy"]:
            raise ConfigError(f"model.path={directory} is a run. Write its trained model: model.path={stands(run, trained[-1])}")
        raise ConfigError(f"model.path={directory} is a run that is not finished. Run its command again, then take its policy.")
    if not (directory / CONFIG).is_file():
        below = [place.parent for name in (CONFIG, ADAPTER_CONFIG) for place in directory.glob(f"*/{name}")]
        if below:
            newest = max(below, key=lambda place: (place.stat().st_mtime, place.name))
            raise ConfigError(f"model.path={directory} holds no model itself. Write model.path={newest}")


def stands(run: Path, entry: Mapping[str, Any]) -> Path:
    """Return where an artifact of a run's lineage stands: beside the run, or where it was when the run was made."""
    beside = run.parent.parent.parent / entry["kind"] / entry["name"]
    return beside if beside.is_dir() else Path(entry["path"])


def _known(kind: Any) -> bool:
    """Return whether transformers has the code of a kind of model."""
    from transformers import CONFIG_MAPPING

    return kind in CONFIG_MAPPING


def refuse_unusable_adapter(directory: Path) -> None:
    """Raise ConfigError if the weights of an adapter in PEFT's format are not there as safetensors, or not whole."""
    again = "Copy it again, or train it again."
    if not (directory / ADAPTER).is_file():
        raise ConfigError(f"model.path={directory} has an adapter's configuration and no {ADAPTER}. {again}")
    header_of(directory / ADAPTER, again)


def weight_files(directory: Path, again: str) -> list[str]:
    """Return the names of the safetensors files of a model, each of which is there.

    Raises:
        ConfigError: if one is missing, or there are only pickles.
    """
    if (directory / INDEX).is_file():
        names = sorted(set(read_json(directory, INDEX, again).get("weight_map", {}).values()))
        if missing := [name for name in names if not (directory / name).is_file()]:
            listed = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            raise ConfigError(
                f"model.path={directory} is not complete: {len(missing)} of the {len(names)} weight files that {INDEX} names "
                f"{'is' if len(missing) == 1 else 'are'} missing ({listed}). {again}"
            )
        return names
    if (directory / SINGLE).is_file():
        return [SINGLE]
    if pickles := sorted(path.name for path in directory.glob("pytorch_model*.bin")):
        raise ConfigError(
            f"model.path={directory} has its weights in {pickles[0]}, a pickle, which can run code when it is read; safetensors "
            'are asked for. If you trust it, convert it once: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{directory}', dtype='auto', use_safetensors=False).save_pretrained('{directory}')\""
        )
    raise ConfigError(f"model.path={directory} has no weights: neither {SINGLE} nor {INDEX} is there. {again}")


def read_json(directory: Path, name: str, again: str) -> dict[str, Any]:
    """Return the object in a file of a model; ConfigError if there is none."""
    path = directory / name
    if not path.is_file():
        raise ConfigError(
            f"model.path={directory} holds no model: {name} is not there. Give a directory in Hugging Face layout "
            f"(config.json, tokenizer, safetensors). {again}".rstrip()
        )
    refuse_pointer(path, again)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}): it was cut off or changed. {again}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no JSON object: it is not that of a model. {again}")
    return content


def header_of(path: Path, again: str) -> dict[str, Any]:
    """Return name -> {dtype, shape, data_offsets} of a safetensors file; ConfigError if the file is not as long as it says."""
    refuse_pointer(path, again)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else 0
        text = file.read(length) if 0 < length <= min(size - 8, MAX_HEADER) else b""
    try:
        header = json.loads(text)
        tensors = {name: about for name, about in header.items() if name != "__metadata__"}
        end = 8 + length + max((about["data_offsets"][1] for about in tensors.values()), default=0)
    except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise ConfigError(f"{path} is not a safetensors file: it was cut off or changed. {again}") from error
    if end != size:
        raise ConfigError(f"{path} is not whole: it has {size} bytes and its header speaks of {end}. {again}")
    return tensors


def refuse_pointer(path: Path, again: str) -> None:
    """Raise ConfigError if git left a pointer where a large file should be."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ConfigError(f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull` in its directory. {again}")


def tensors_of(directory: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every weight of a whole directory."""
    for name in weight_files(directory, ""):
        yield from ((tensor, tuple(about["shape"])) for tensor, about in header_of(directory / name, "").items())


def parameters_in(directory: Path) -> int:
    """Return how many weights a whole directory holds; those that are tied stand in it once."""
    return sum(prod(shape) for _, shape in tensors_of(directory))


def labels_in(directory: Path) -> int:
    """Return how many labels a classifier's configuration names: two where it names none, as transformers has it."""
    config = read_json(directory, CONFIG, "")
    return len(config["id2label"]) if isinstance(config.get("id2label"), dict) else int(config.get("num_labels", 2))


def positions_in(directory: Path) -> int | None:
    """Return how many tokens a model was made to read in one row; None if its configuration does not say."""
    config = read_json(directory, CONFIG, "")
    config = config.get("text_config") or config
    found = next((config[name] for name in ("max_position_embeddings", "n_positions", "n_ctx") if config.get(name)), None)
    return int(found) if found else None


def ends_in(directory: Path) -> list[int]:
    """Return the ids at which a model's configuration and generation settings end an answer, of those files that are there."""
    config, settings = (read_json(directory, name, "") if (directory / name).is_file() else {} for name in (CONFIG, GENERATION))
    named = (config, config.get("text_config") or {}, settings)
    return end_ids(None, *(SimpleNamespace(eos_token_id=each.get("eos_token_id")) for each in named))
