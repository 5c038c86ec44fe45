"""Licences: what a publication is made from brings one, and a card states it in the Hub's own words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.conf_files import CONF

OTHER_NAMES = {"llama-2-community": "llama2", "llama-3-community": "llama3"}
"""What the yaml files call licences for which the Hub has another name."""
KNOWN = frozenset(
    (
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "openrail", "bigscience-openrail-m"),
        *("bigscience-bloom-rail-1.0", "openrail++", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0"),
        *("cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0"),
        *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "pddl", "odc-by", "odbl", "gpl", "gpl-2.0"),
        *("gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "isc", "unlicense", "llama2", "llama3"),
        *("llama3.1", "llama3.2", "llama3.3", "llama4", "gemma", "other"),
    )
)
"""Licences that the Hub knows; any other is stated as `other` with its name."""


@dataclass(frozen=True)
class Part:
    """Something that a publication is made from."""

    what: str
    """Its role: base model, prompts, training pairs."""
    name: str
    licence: str | None
    """As its yaml states it; None if nothing states it."""


def parts_in(call: Mapping[str, Any], words: Sequence[str] = (), base: str | None = None) -> list[Part]:
    """Return what a run was made from, as the configuration of its command line states it; the model first.

    A tiny model is trained from nothing and has no licence; the embedded prompts are this project's.

    Args:
        call: the resolved configuration.
        words: of the command line; a path that was typed there does not have the licence of the option's own path.
        base: Hub id that the publisher names for the model that was trained; it has the licence that an option states for it.
    """
    model, data = call.get("model") or {}, call.get("data") or {}
    other = base not in (None, model.get("path")) and "model.licence" not in keys_of(words)
    licence = licence_stated("model", str(base)) if other else _licence("model", model, words)
    parts = [Part("base model", base or str(model["path"]), licence)] if "path" in model else []
    if not data:
        return [*parts, Part("training pairs", "of an unknown source", None)]
    prompts = data.get("prompts")
    where, group = prompts or data, "prompts" if prompts else "data"
    if str(where.get("_target_", "")).endswith(".FilmPrompts"):
        return [*parts, Part("prompts", "film reviews of this project", "MIT")]
    name = str(where.get("path", "of an unknown source"))
    return [*parts, Part("prompts" if prompts else "training pairs", name, _licence(group, where, words))]


def keys_of(words: Sequence[str]) -> set[str]:
    """Return the keys that words of a command line set."""
    return {word.lstrip("+").partition("=")[0] for word in words}


def _licence(group: str, where: Mapping[str, Any], words: Sequence[str]) -> str | None:
    """Return the licence that belongs to the path of a part: what an option states holds for the path that it states."""
    typed = keys_of(words)
    places = (group, f"data.{group}")
    its_own = any(f"{place}.licence" in typed for place in places)
    if its_own or not any(f"{place}.path" in typed for place in places):
        return where.get("licence")
    return where.get("licence") if licence_stated(group, str(where.get("path"))) else None


def licence_stated(group: str, path: str) -> str | None:
    """Return the licence that an option of a group states for its path; None if no option has the path.

    >>> licence_stated("model", "mistralai/Mistral-7B-Instruct-v0.2"), licence_stated("model", "someone/else")
    ('Apache-2.0', None)
    """
    stated = re.compile(rf"^ *path: {re.escape(path)}(?: #.*)?$", re.MULTILINE)
    for option in sorted((CONF / group).glob("*.yaml")):
        text = option.read_text(encoding="utf-8")
        if stated.search(text) and (licence := re.search(r"^ *licence: (.*?)(?: #.*)?$", text, re.MULTILINE)):
            return licence[1].strip()
    return None


def licences_of(parts: Sequence[Part], asked: str | None) -> tuple[str, ...]:
    """Return the licences of a publication, each once, in the Hub's words; the one that is asked for stands for all.

    >>> licences_of([Part("base model", "a/b", "Apache-2.0"), Part("prompts", "c/d", "MIT")], None)
    ('apache-2.0', 'mit')

    Raises:
        ConfigError: if one is unknown, and none is asked for.
    """
    if asked:
        return (in_words_of_hub(asked),)
    for part in parts:
        if not is_known(part.licence):
            raise ConfigError(
                f"the licence of the {part.what} ({part.name}) is not known, and a card has to state one. "
                "Look it up and add it: licence=ID, for instance licence=cc-by-4.0."
            )
    return tuple(dict.fromkeys(in_words_of_hub(str(part.licence)) for part in parts))


def is_known(licence: str | None) -> bool:
    """Return whether a licence is stated; `unknown` states none."""
    return bool(licence) and str(licence).strip().lower() != "unknown"


def in_words_of_hub(licence: str) -> str:
    """Return a licence as the Hub names it, or as it is where the Hub does not know it.

    >>> in_words_of_hub("Apache-2.0"), in_words_of_hub("Llama-3-Community"), in_words_of_hub("Our Own")
    ('apache-2.0', 'llama3', 'our own')
    """
    lower = licence.strip().lower()
    return OTHER_NAMES.get(lower, lower)
