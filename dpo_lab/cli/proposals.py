"""What is proposed instead of a mistake: other settings, composed before they are shown, so that they work when typed."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from dpo_lab.cli.arguments import CommandLine, key_of
from dpo_lab.cli.conf import groups, options
from dpo_lab.cli.help import fields_of, groups_of
from dpo_lab.cli.keys import has_no_effect, with_typed_keys
from dpo_lab.cli.other_names import here
from dpo_lab.conf_files import CONF


@dataclass(frozen=True)
class Mistake:
    """One setting of a command line that cannot be, among the others."""

    stage: str
    setting: str
    """As it was typed."""
    others: tuple[str, ...]
    config_dir: Path | None = None

    @classmethod
    def on(cls, line: CommandLine, key: str) -> "Mistake":
        """Return the mistake of a command line at a key."""
        typed = next((text for text in line.composed if key_of(text) == key), f"{key}=...")
        return cls(line.stage, typed, tuple(text for text in line.composed if text != typed), line.config_dir)

    @property
    def key(self) -> str:
        """The key that was typed."""
        return key_of(self.setting)

    @property
    def value(self) -> str:
        """The value that was typed, `...` where there is none."""
        return self.setting.partition("=")[2] or "..."

    def accepts(self, words: Sequence[str]) -> bool:
        """Return whether the command composes with these words in place of the mistake, and each has an effect in its stage."""
        keys = {key_of(word) for word in words}
        rest = tuple(text for text in self.others if key_of(text) not in keys)
        found = composed(self.stage, (*rest, *words), self.config_dir)
        if found is None and composed(self.stage, rest, self.config_dir) is None:  # another mistake has its own answer
            found = composed(self.stage, tuple(words), self.config_dir)
        return found is not None and all(has_effect(found.raw, key_of(word)) for word in words)

    def beside(self, word: str) -> str:
        """Return a setting by the key that its value comes from, if that is typed already: both would be set twice."""
        found = composed(self.stage, self.others, self.config_dir)
        return with_typed_keys(word, found.raw, {key_of(text) for text in self.others}) if found else word

    def known(self) -> list[str]:
        """Return the groups and the stage's own keys that can be set."""
        found = composed(self.stage, (), self.config_dir)
        names = {str(name) for name in (found.raw if found else ()) if name not in ("_target_", "outputs")} - set(groups())
        taken = groups_of(self.stage, (CONF / f"{self.stage}.yaml").read_text(encoding="utf-8"))
        return sorted({*(name for name in names if found and has_effect(found.raw, name)), *taken})


# ---------------------------------------------------------------- what was meant
def of_another_tool(mistake: Mistake) -> str:
    """Return what to type for the name that another tool has for a setting, or nothing.

    Words that are typed already, or chosen without being typed, are left out.
    """
    setting = here(mistake.key.rpartition(".")[2], mistake.value)
    if not setting:
        return ""
    words, note = shlex.split(setting[0]), setting[1]
    if not words:
        return f" Leave it out: {note}."
    group = key_of(words[0])
    if len(words) == 2 and words[1].startswith(f"{group}.path=") and mistake.value in options(group):
        words = [f"{group}={mistake.value}"]
    for some in (words[1:], words[:1], words):  # as few as do: adapter=lora may stand there without being typed
        if some and (len(some) == len(words) or chosen_without(mistake, [word for word in words if word not in some])):
            some = [mistake.beside(word) for word in some]
            complete = some if mistake.accepts(some) else with_option(mistake, some)
            if complete:
                return f" Write {in_shell(complete)}" + (f" ({note})." if note else "")
    return ""


def chosen_without(mistake: Mistake, words: Sequence[str]) -> bool:
    """Return whether groups have these options already."""
    found = composed(mistake.stage, mistake.others, mistake.config_dir)
    return all(found and found.choices.get(key_of(word)) == word.partition("=")[2] for word in words)


def with_option(mistake: Mistake, words: Sequence[str]) -> list[str]:
    """Return words behind the option of their group that has their key, none if no option makes them work."""
    if len(words) != 1 or "." not in words[0]:
        return []
    group, _, rest = key_of(words[0]).partition(".")
    return next((both for option in having(group, rest) if mistake.accepts(both := [f"{group}={option}", words[0]])), [])


def having(group: str, name: str) -> list[str]:
    """Return the options of a group that have a key; those that need it alone if there are such; the group's own choice first.

    >>> having("adapter", "rank"), having("data", "path")
    (['lora', 'dora', 'rslora'], ['jsonl'])
    """
    first = re.search(rf"^ +- {group}: (\S+)", (CONF / "groups.yaml").read_text(encoding="utf-8"), re.M)
    texts = {option: (CONF / group / f"{option}.yaml").read_text(encoding="utf-8") for option in options(group)}
    found = [option for option, text in texts.items() if re.search(rf"^{re.escape(name)}:", text, re.M)]
    found = [option for option in found if re.search(rf"^{re.escape(name)}: \?\?\?", texts[option], re.M)] or found
    return sorted(found, key=lambda option: first is None or option != first[1])


def in_shell(words: Sequence[str]) -> str:
    """Return words as a shell takes them; a list and ... need no quotes.

    >>> print(in_shell(["tags=[a]", "notes='x y'", "data.path=..."]))
    tags=[a] 'notes='"'"'x y'"'"'' data.path=...
    """
    return " ".join(word if re.fullmatch(r"[\w./:@%+=,\[\]-]+", word) else shlex.quote(word) for word in words)


# ---------------------------------------------------------------- composing
class Composed(NamedTuple):
    """A configuration as it is before ${...} is resolved."""

    raw: Mapping[str, Any]
    choices: Mapping[str, Any]
    """The option of each group."""
    config: Any
    """The same as Hydra made it."""


@lru_cache(maxsize=64)
def composed(stage: str, overrides: tuple[str, ...], config_dir: Path | None) -> Composed | None:
    """Return the raw configuration of a stage, of a swept key its first value; None if it cannot be composed.

    While Hydra runs, it composes with the directories that it was called with.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    more = [f"hydra.searchpath=[{config_dir.absolute()}]"] if config_dir else []
    try:
        values = first_values(overrides)
        if (running := GlobalHydra.instance()).is_initialized():
            config = running.config_loader().load_configuration(config_name=stage, overrides=values, run_mode=RunMode.RUN)
        else:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                config = compose(stage, [*more, *values], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):
        return None
    raw = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), resolve=False)
    return Composed(cast(Mapping[str, Any], raw), dict(config.hydra.runtime.choices), config)


def first_values(overrides: Sequence[str]) -> list[str]:
    """Return overrides of which each names one value: the first of those that a sweep has."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [
        f"{each.key_or_group}={next(each.sweep_string_iterator())}" if each.is_discrete_sweep() else text
        for each, text in zip(parsed, overrides, strict=True)
    ]


def has_effect(raw: Mapping[str, Any], key: str) -> bool:
    """Return whether a stage takes a key, directly or through ${...}; groups that choose whole recipes always count."""
    return not has_no_effect(raw, sorted(fields_of(str(raw["_target_"]))), key)
