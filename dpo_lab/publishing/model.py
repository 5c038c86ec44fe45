"""A trained model as a folder for the Hub: an adapter that names its base there, or all weights."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.hub import HUB_ID
from dpo_lab.models.directory import ADAPTER_CONFIG
from dpo_lab.publishing.source import Source
from dpo_lab.run_directory import METRICS, SAMPLES

NOT_PART = (METRICS, SAMPLES, "README.md", "profile_operators.txt", "profile_trace.json.gz")
"""Files of a policy that do not belong to the model; the card replaces peft's."""
BASE = "base_model_name_or_path"
PLACES = ("_name_or_path", "name_or_path")
"""Keys of configurations that hold where a model was on the machine that trained it."""


def base_on_hub(source: Source, asked: str | None) -> tuple[str | None, str | None]:
    """Return Hub id and commit of a model's base; None where it has none there that is known.

    Raises:
        ConfigError: if the model is an adapter whose base is a directory of this machine, and no id is asked for.
    """
    assert source.model is not None
    held = dict(source.model.facts.get("held") or {})
    recorded, revision = str(held.get("base") or ""), held.get("revision")
    if not recorded:
        stated = source.call.get("model") or {}
        recorded, revision = str(stated.get("path") or ""), stated.get("revision")
    if asked:
        return asked, revision if asked == recorded else None
    if HUB_ID.fullmatch(recorded) and not Path(recorded).is_dir():
        return recorded, revision
    if source.has_adapter:
        raise ConfigError(
            f"source={source.path} is an adapter on {recorded or 'an unknown base'}, a directory of this machine, which nobody "
            "else has. Name the same model on the Hub: base=OWNER/NAME. Or publish one plain model: export this one "
            f"(`dpo-lab export policy={source.path}`), then use source=outputs/export/NAME."
        )
    return None, None


def write_model(source: Source, directory: Path, base: str | None, revision: str | None) -> None:
    """Write the model's files, without what says where they were on this machine."""
    assert source.model is not None
    for name in source.model.manifest["files"]:
        if name not in NOT_PART:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            _take(source.model.path / name, directory / name)
    if source.has_adapter:
        about = json.loads((directory / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        _write(directory / ADAPTER_CONFIG, {**about, BASE: base, "revision": revision})
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        path = directory / name
        about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if any(key in about for key in PLACES):
            _write(path, {key: value for key, value in about.items() if key not in PLACES})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.unlink()
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _take(origin: Path, place: Path) -> None:
    """Copy a file; weights take no second place on the disk where the file system can share them."""
    if origin.suffix == ".safetensors":
        try:
            os.link(origin, place)
            return
        except OSError:
            pass
    shutil.copyfile(origin, place)
