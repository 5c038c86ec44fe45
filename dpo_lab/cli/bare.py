"""Words that set nothing: a stage that does not exist, and what stands on a command line without an equals sign."""

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from dpo_lab.cli.arguments import FILES, FIRST, TOOLS, quoted
from dpo_lab.cli.conf import groups, homes, listed, options, required, stages
from dpo_lab.cli.help import groups_of
from dpo_lab.cli.other_names import STAGES
from dpo_lab.cli.proposals import LISTS, Mistake, in_shell
from dpo_lab.cli.rewriting import in_quotes
from dpo_lab.conf_files import CONF
from dpo_lab.spelling import nearest

GIVEN = {
    **dict.fromkeys(("train", "doctor", "pretrain"), ("data=jsonl", "data.path")),
    "sample": ("prompts=jsonl", "prompts.path"),
}
"""Where a file or a directory belongs that was given alone, in a stage that needs none."""
DASHED = ("help", "version", "multirun", "info", "resolve")


def unknown_stage(words: Sequence[str]) -> str:
    """Return what to write instead of a stage that does not exist; the stage is the first of the words."""
    word, *rest = words
    known, command = (*stages(), *TOOLS), "Write dpo-lab"
    after = next((later for later in rest if later in stages()), "")
    if after and (word.startswith("-") or "=" in word):
        others = [other for other in words if other != after]
        return f"{word!r} stands before the stage, which comes first. {command} {' '.join([after, *others])}"
    if "=" in word:
        return f"{word!r} is a setting, and the stage comes first. {command} train {' '.join(words)}"
    meant = nearest(word, known)
    if not meant and word.lower() in STAGES:
        meant = f" {command} {STAGES[word.lower()]}"
    return f"{word!r} is not a stage.{meant} Valid: {', '.join(known)}. Example: dpo-lab train model=tiny"


def unnamed(stage: str, word: str, others: Sequence[str], before: str = "") -> str:
    """Return what was meant by a word that sets nothing.

    Args:
        others: the other words of the command line, in order from the one behind it.
        before: the word in front of it.
    """
    said, follows = f"{word!r} sets nothing.", others[0] if others else ""
    if follows.startswith("="):
        value = follows[1:] or (others[1] if len(others) > 1 else "...")
        return f"{word} {follows}: no blank stands beside an equals sign. Write {word}={value}"
    if word.lstrip("-") in (stage, *stages()):
        return f"{said} {'The stage is named already: leave it out.' if word == stage else f'Another stage: dpo-lab {word}'}"
    if word in DASHED:
        return f"{said} Write --{word}"
    taken = groups_of(stage, (CONF / f"{stage}.yaml").read_text(encoding="utf-8"))
    if pair := re.fullmatch(r"([a-z_][\w.]*?)(?::|/|-|\.)(\S+)", word):
        key, value = pair[1], pair[2]
        if value in options(key) if key in groups() else ":" in word and homes(key.rpartition(".")[2]):
            return f"{said} Write {key}={value}"
    if is_path(word):
        return f"{said} Write {place_for(stage, word, others)}"
    if word in groups():
        return f"{said} Write {word}=OPTION, with one of {listed(options(word))}."
    found = [group for group in (*FIRST, *groups()) if word in options(group) and group in taken]
    if not found and (meant := with_blanks(stage, [before, word, *others])):
        return f"{said} {meant}"
    return f"{said} Write group=option or key=value, for instance {example(stage, word, found)}."


def with_blanks(stage: str, words: Sequence[str]) -> str:
    """Return how a value is written that has blanks, a text or a list; empty if its key takes neither, or it is a group."""
    first, *rest = words
    key, equals, value = first.partition("=")
    values = [value, *takewhile(lambda word: "=" not in word and not word.startswith("-"), rest)]
    if not equals or key.lstrip("+~") in groups():
        return ""
    mistake, text, several = Mistake(stage, first, ()), in_quotes(key, " ".join(values)), f"{key}=[{','.join(values)}]"
    if mistake.works([text]):
        return f"A text with blanks is quoted twice. Write {in_shell([text])}"
    return f"A list is written in brackets. Write {in_shell([several])}" if mistake.works([several]) else ""


def example(stage: str, word: str, found: Sequence[str]) -> str:
    """Return a setting of a stage that has to do with a word, or the one that the stage needs."""
    if found:
        return f"{found[0]}={word}"
    texts = (CONF / f"{stage}.yaml").read_text(encoding="utf-8")
    if re.search(rf"^{re.escape(word)}: (?:true|false)\b", texts, re.M):
        return f"{word}=true"
    if re.search(rf"^{re.escape(word)}: ", texts, re.M):
        return f"{word}=..."
    needed = [f"{key}=..." for key in required(stage)]
    return needed[0] if needed else "data=films or optim.lr=1e-4" if stage in ("train", "doctor") else "model=gpt2"


def is_path(word: str) -> bool:
    """Return whether a word looks like a path, or is one."""
    return "/" in word or word.endswith(FILES) or Path(word).exists()


def place_for(stage: str, path: str, others: Sequence[str]) -> str:
    """Return the settings by which a stage is told a path."""
    needed = next(iter(required(stage)), "")
    places = [path, *(other for other in others if "=" not in other and is_path(other))]
    if stage == "evaluate" and len(places) > 1:
        return f"runs=[{','.join(places)}]"
    if needed:
        return quoted(needed, path)
    if stage in LISTS:
        return f"{LISTS[stage]}=[{','.join(places)}]"
    option, key = GIVEN.get(stage, ("", "answers"))
    return f"{option} {quoted(key, path)}".lstrip()
