"""What the command line gives a group: one of its options, and nothing that Hydra would take for something else."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.cli.arguments import FILES, SEVERAL, UsageError, escaped, is_place, quoted
from dpo_lab.cli.composing import composed
from dpo_lab.cli.conf import few, groups, listed, options, question, required, valid_options
from dpo_lab.cli.keys import settable
from dpo_lab.cli.other_names import OTHER_NAMES
from dpo_lab.cli.plugins import PACKAGES, instead_of_plugin
from dpo_lab.cli.proposals import Mistake, in_shell
from dpo_lab.conf_files import CONF
from dpo_lab.plain_data import as_typed
from dpo_lab.spelling import nearest

HUB = re.compile(r"https?://(?:www\.)?huggingface\.co/(?P<id>(?!datasets/)[\w.-]+/[\w.-]+)(?:/.*)?")
WITH_HUB_IDS = ("model", "ranker")  # groups that have an option which loads a model from the Hub
OF_MANY = ("default", "none")
"""Options that say nothing of the group that they belong to."""


def refuse_choices(stage: str, overrides: Sequence[Any], config_dir: Path | None, *, is_multirun: bool = False) -> None:
    """Raise UsageError for the first parsed override that gives a group no option, or one that it does not have.

    Options that a `hydra.searchpath` on the command line may bring are left to Hydra.
    """
    elsewhere = any(override.key_or_group == "hydra.searchpath" for override in overrides)
    alone = not is_multirun and not any(override.key_or_group in ("hydra.mode", "sweep", "experiment") for override in overrides)
    for override in overrides:
        group = override.key_or_group
        if group == "hydra":
            raise UsageError(f"{override.input_line}: settings of Hydra are set one by one. Write hydra.KEY=VALUE.")
        refuse_hydra_setting(override.input_line, alone=alone)
        if group not in groups() and "/" not in group:
            continue
        if override.is_delete():
            refuse_deletion(group)
            continue
        others = tuple(each.input_line for each in overrides if each is not override)
        for option in chosen(override, stage, others):
            known = group not in groups() or is_option(group, option, config_dir) or elsewhere
            if not known or not isinstance(option, str):
                text = as_typed(option)
                raise UsageError(no_such_option(text, Mistake(stage, f"{group}={text}", others, config_dir)))


def refuse_hydra_setting(override: str, *, alone: bool) -> None:
    """Raise UsageError for a setting of Hydra that is a separate part, or has no effect here.

    Args:
        alone: whether this is a single run.
    """
    key, _, value = override.lstrip("+").partition("=")
    group = key.replace(".", "/")
    if key in ("hydra.launcher", "hydra.sweeper"):
        if problem := instead_of_plugin(group, value):
            raise UsageError(f"{override}: {problem.replace('the same command', f'-m {group}={value}')}")
        raise UsageError(f"{override}: this is chosen like a group, for several runs. Write -m {group}={value}")
    if key in ("hydra.run", "hydra.run.dir"):
        raise UsageError(f"{override}: a run names its own directory below paths.outputs. Write paths.outputs={value or 'DIR'}")
    if group in PACKAGES and (problem := instead_of_plugin(group, value)):
        raise UsageError(f"{override}: {problem}")
    if alone and re.match(r"hydra[./](?:sweep|sweeper|launcher)\b", key):
        raise UsageError(f"{override} has no effect on a single run: it is for several (-m). Leave it out.")


def refuse_deletion(group: str) -> None:
    """Raise UsageError for ~group, without which no stage can be composed."""
    if group in groups():
        instead = f"Leave it out, or choose another option: {group}={options(group)[0]}."
        raise UsageError(f"~{group}: every stage needs this group. {instead}")


def chosen(override: Any, stage: str, others: tuple[str, ...]) -> list[Any]:
    """Return what an override gives a group: text for an option, and other types as they are."""
    from hydra.core.override_parser.types import Glob

    value, group = override.value(), override.key_or_group
    if override.is_sweep_override():
        if isinstance(value, Glob) or not override.is_discrete_sweep():
            return []
        values = list(override.sweep_string_iterator())
        return [
            text.strip("'\"").replace("True", "true").replace("False", "false")
            for text in values
            if not (text.startswith("[") and group in SEVERAL)
        ]
    if isinstance(value, dict):
        single = f"Single values are written {group}.KEY=VALUE"
        raise UsageError(f"{override.input_line}: {group} takes the name of an option. {single}.")
    if isinstance(value, list):
        if group in groups() and (not value or group not in SEVERAL):
            raise UsageError(takes_one(override, [text_of(item) for item in value], stage, others))
        return [text_of(item) for item in value]
    return [text_of(value)]


def text_of(value: Any) -> Any:
    """Return a quoted string as text, and everything else as it is."""
    return str(getattr(value, "text", value)) if isinstance(value, str) or hasattr(value, "text") else value


def is_option(group: str, option: Any, config_dir: Path | None) -> bool:
    """Return whether a group has an option, in a directory below it too (loss=mine/first)."""
    directories = [CONF, *([config_dir] if config_dir else [])]
    return isinstance(option, str) and any((place / group / f"{option.strip()}.yaml").is_file() for place in directories)


def takes_one(override: Any, items: Sequence[Any], stage: str, others: tuple[str, ...]) -> str:
    """Return what to do with a list for a group of which one option is chosen; both measures of a run are an option too."""
    group, said = override.key_or_group, override.input_line
    if not items or not set(items) <= set(options(group)):
        return f"{said}: {group} needs one of its options: {listed(options(group))}."
    is_both = "both" in options(group) and Mistake(stage, said, others).works([f"{group}=both"])
    both = f" Both in one run: {group}=both." if is_both else ""
    return f"{said}: {group} takes one option. To run each of them: -m {group}={','.join(map(str, items))}.{both}"


def no_such_option(option: str, mistake: Mistake) -> str:
    """Return which options a group has, those of --config-dir included, or where a path belongs."""
    group = mistake.key
    valid = options(group, mistake.config_dir)
    at_paths = [name for name in options(group) if re.search(r"^path: \?\?\?", yaml_of(group, name), re.M)]
    at_path = next(iter(at_paths), None)
    if at_path and (place := place_of(option, hub=group in WITH_HUB_IDS)):
        words = mistake.best([f"{group}={name}", f"{group}.path={escaped(place)}"] for name in at_paths)
        if (key := place_key(mistake.stage)) and not (words and mistake.works(words)):
            words = [f"{key}={escaped(place)}"]
        remedy = in_shell(words) if words else f"{group}={at_path} {quoted(f'{group}.path', place)}"
        return f"{group}={option}: this is a path, and {group} takes the name of an option. Write {remedy}"
    if option.startswith(("http://", "https://")):
        download = f"Download it and write {group}={at_path} {group}.path=PLACE."
        instead = download if at_path else valid_options(group, mistake.config_dir)
        return f"{group}={option}: nothing is read from an address. {instead}"
    none = f"{group}={option}: this option does not exist."
    if known := OTHER_NAMES.get(f"{group}={option}".lower()):
        typed, _, note = known.partition(" # ")
        return f"{none} Write {in_shell(mistake.best([typed.split()]) or typed.split())}{f' ({note})' if note else ''}"
    if option in ("all", "*"):
        return f"{none} To run each of them: -m '{group}=glob(*)'"
    meant = nearest(option, valid) or question(beginning(option, valid))
    if not meant and (instead := elsewhere(option, mistake)):
        return f"{none}{instead}"
    return f"{none}{meant} {valid_options(group, mistake.config_dir, meant=meant)}"


def place_key(stage: str) -> str:
    """Return the key of the path that a stage needs, empty if it needs none.

    >>> place_key("rank"), place_key("train")
    ('candidates.path', '')
    """
    return next((key for key in required(stage) if is_place(key)), "")


def beginning(word: str, names: Sequence[str]) -> list[str]:
    """Return the names that a word begins; none for a word of one letter.

    >>> beginning("llama", ["llama2_7b", "llama3_8b", "tiny"]), beginning("l", ["lora"])
    (['llama2_7b', 'llama3_8b'], [])
    """
    return [name for name in names if len(word) > 1 and name.startswith(word.lower())]


def elsewhere(option: str, mistake: Mistake) -> str:
    """Return what was meant by an option that other groups have, or by a value where a group has keys; nothing if unknown."""
    group = mistake.key
    homes = [other for other in groups() if other != group and option in options(other) and option not in OF_MANY]
    with_it = [[f"{group}=same", f"{home}={option}"] for home in homes if "same" in options(group)]  # judge=length
    words = mistake.best([*with_it, *([f"{home}={option}"] for home in homes)]) if homes else []
    if words:
        return f" It is an option of {few(homes)}. Write {in_shell(words)}"
    made = composed(mistake.stage, mistake.others, mistake.config_dir)
    keys = [key for key in settable(made.raw, group) if key.startswith(f"{group}.")] if made else []
    if len(options(group)) == 1 and (key := next((key for key in keys if mistake.works([f"{key}={option}"])), "")):
        return f" Write {key}={option}"
    return ""


def place_of(option: str, *, hub: bool) -> str | None:
    """Return the path in a text, or the Hub id where one can be given; None if it holds none.

    >>> [place_of(text, hub=True) for text in ("/data/x", "https://huggingface.co/a/b/tree/main", "films", "pairs.jsonl")]
    ['/data/x', 'a/b', None, 'pairs.jsonl']
    """
    if hub and (found := HUB.fullmatch(option)):
        return found["id"]
    if "://" in option:
        return None
    return option if "/" in option or option.endswith(FILES) or Path(option).exists() else None


def yaml_of(group: str, option: str) -> str:
    """Return the text of an option's file."""
    return (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
