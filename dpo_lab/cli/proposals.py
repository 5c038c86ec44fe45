"""What is proposed instead of a mistake: other settings, composed before they are shown, so that they work when typed."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.cli.arguments import TRAINED, CommandLine, key_of
from dpo_lab.cli.composing import composed
from dpo_lab.cli.conf import groups, options
from dpo_lab.cli.help import fields_of, groups_of
from dpo_lab.cli.keys import has_no_effect, with_typed_keys
from dpo_lab.cli.other_names import here
from dpo_lab.cli.remedies import completed
from dpo_lab.conf_files import CONF

if TYPE_CHECKING:
    from dpo_lab.cli.build import Trial

UNKNOWN = "..."
"""A value that was not typed."""
LISTS = {"chat": "models", "evaluate": "models"}
"""Stages that take several models."""


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
        typed = next((text for text in line.composed if key_of(text) == key), f"{key}={UNKNOWN}")
        return cls(line.stage, typed, tuple(text for text in line.composed if text != typed), line.config_dir)

    @classmethod
    def of(cls, line: CommandLine, override: str) -> "Mistake":
        """Return the mistake of a command line that an override is."""
        return cls(line.stage, override, tuple(text for text in line.composed if text != override), line.config_dir)

    @property
    def key(self) -> str:
        """The key that was typed."""
        return key_of(self.setting)

    @property
    def value(self) -> str:
        """The value that was typed, `...` where there is none."""
        return self.setting.partition("=")[2] or UNKNOWN

    def named(self, name: str) -> "Mistake":
        """Return the same mistake with another last name."""
        above = self.key.rpartition(".")[0]
        return replace(self, setting=f"{above}{'.' if above else ''}{name}={self.value}")

    def accepts(self, words: Sequence[str]) -> bool:
        """Return whether the command composes with these words in place of the mistake, and each has an effect in its stage."""
        rest = self.without(words)
        found = composed(self.stage, (*rest, *words), self.config_dir)
        if found is None and composed(self.stage, rest, self.config_dir) is None:  # another mistake has its own answer
            found = composed(self.stage, tuple(words), self.config_dir)
        return found is not None and all(has_effect(found.raw, key_of(word)) for word in words)

    def works(self, words: Sequence[str]) -> bool:
        """Return whether the command could start with these words in place of the mistake, but for what is wrong without them."""
        found, before = self.trials(words)
        if found is None and before is None:  # something else cannot be composed either, and is answered next
            found = self.trial(words)
        if found is None or found.starts:
            return found is not None
        return before is not None and before.refused == found.refused

    def not_taken(self, words: Sequence[str]) -> str:
        """Return why a part does not take these values, whatever a rule about several parts says; empty if all are taken."""
        found, before = self.trials(words)
        return found.refused if found and not found.is_made and (before is None or before.is_made) else ""

    def idle(self, words: Sequence[str]) -> str:
        """Return what is said of these words where they make no difference in this stage; empty if they make one."""
        found, before = self.trials(words)
        return found.idle if found and not (before and before.idle) else ""

    def trials(self, words: Sequence[str]) -> "tuple[Trial | None, Trial | None]":
        """Return how far the command gets with these words in place of the mistake, and without either."""
        rest = self.without(words)
        return self.trial([*rest, *words]), self.trial(rest)

    def trial(self, overrides: Sequence[str]) -> "Trial | None":
        """Return how far the stage gets with some overrides."""
        from dpo_lab.cli.build import trial_of  # libraries of some seconds

        return trial_of(self.stage, tuple(overrides), self.config_dir)

    def completed(self, words: Sequence[str]) -> list[str]:
        """Return words with what the rules ask for beside them, if the command starts with that."""

        def refused(overrides: Sequence[str]) -> str | None:
            found = self.trial(overrides)
            return found.refused if found else None

        return completed(words, self.others, refused)

    def best(self, candidates: Iterable[Sequence[str]]) -> list[str]:
        """Return the first words with which the command starts, else the first ones that compose, completed; [] without any."""
        composing = [list(words) for words in candidates if self.accepts(words)]
        if found := next((words for words in composing if self.works(words)), None):
            return found
        composing = [words for words in composing if not self.idle(words)]
        return self.completed(composing[0]) if composing else []

    def without(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return the other overrides, but those that words set."""
        keys = {key_of(word) for word in words}
        return tuple(text for text in self.others if key_of(text) not in keys)

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
    spelt = (mistake.key, mistake.key.replace(".", "_"), mistake.key.rpartition(".")[2])
    setting = next((found for name in spelt if (found := here(name, mistake.value))), None)
    several = mistake.key in TRAINED and mistake.stage in LISTS
    if not setting and not several:
        return ""
    words, note = [as_option(word) for word in shlex.split(setting[0])] if setting else [], setting[1] if setting else ""
    if several:
        words = [f"{LISTS[mistake.stage]}=[{mistake.value.strip('[]')}]"]
    if not words:
        return f" Leave it out: {note}."
    group = key_of(words[0])
    if len(words) == 2 and words[1].startswith(f"{group}.path=") and mistake.value in options(group):
        words = [f"{group}={mistake.value}"]
    candidates = []
    for some in (words[1:], words[:1], words):  # as few as do: adapter=lora may stand there without being typed
        if some and (len(some) == len(words) or chosen_without(mistake, [word for word in words if word not in some])):
            some = [mistake.beside(word) for word in some]
            candidates += [some, with_option(mistake, some)]
    complete = mistake.best(filter(None, candidates))
    if not complete:
        return ""
    if why := mistake.not_taken(complete):
        return f" Here it is {key_of(complete[-1])}; {why}"
    return f" Write {in_shell(complete)}" + (f" ({note})." if note else "")


def as_option(word: str) -> str:
    """Return a setting with the one option of its group that begins as the value does, if the value is not an option.

    >>> as_option("quant=4"), as_option("quant=4bit"), as_option("optim.lr=4")
    ('quant=4bit', 'quant=4bit', 'optim.lr=4')
    """
    group, _, value = word.partition("=")
    begun = [option for option in (options(group) if group in groups() else ()) if value and option.startswith(value)]
    return f"{group}={begun[0]}" if len(begun) == 1 else word


def chosen_without(mistake: Mistake, words: Sequence[str]) -> bool:
    """Return whether groups have these options already."""
    found = composed(mistake.stage, mistake.others, mistake.config_dir)
    return all(found and found.choices.get(key_of(word)) == word.partition("=")[2] for word in words)


def with_option(mistake: Mistake, words: Sequence[str]) -> list[str]:
    """Return words behind the option of their group that has their key, none if no option makes them work."""
    if len(words) != 1 or "." not in words[0]:
        return []
    group, _, rest = key_of(words[0]).partition(".")
    return mistake.best([f"{group}={option}", words[0]] for option in having(group, rest))


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
    tags=[a] "notes='x y'" data.path=...
    """
    return " ".join(word if re.fullmatch(r"[\w./:@%+=,\[\]-]+", word) else in_marks(word) for word in words)


def in_marks(word: str) -> str:
    """Return a word in quotation marks for a shell: double ones around single ones, where nothing in it is special to a shell.

    >>> print(in_marks("a='b c'"), in_marks("a=$b"), in_marks("seed=range(0,3)"))
    "a='b c'" 'a=$b' 'seed=range(0,3)'
    """
    plain = word.replace("\\'", "")  # between double quotes a shell leaves this as it is
    return f'"{word}"' if "'" in word and not re.search(r"[\\\"$`!]", plain) else shlex.quote(word)


def has_effect(raw: Mapping[str, Any], key: str) -> bool:
    """Return whether a stage takes a key, directly or through ${...}; groups that choose whole recipes always count."""
    return not has_no_effect(raw, sorted(fields_of(str(raw["_target_"]))), key)
