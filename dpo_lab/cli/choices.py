"""What the command line gives a group: one of its options, and nothing that Hydra would take for something else."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.cli.arguments import SEVERAL, UsageError, quoted
from dpo_lab.cli.conf import groups, options
from dpo_lab.cli.other_names import OTHER_NAMES
from dpo_lab.cli.plugins import PACKAGES, instead_of_plugin
from dpo_lab.conf_files import CONF
from dpo_lab.plain_data import as_typed
from dpo_lab.spelling import nearest

HUB = re.compile(r"https?://(?:www\.)?huggingface\.co/(?P<id>(?!datasets/)[\w.-]+/[\w.-]+)(?:/.*)?")
FILES = (".json", ".jsonl", ".gz", ".parquet", ".csv", ".txt")


def refuse_choices(overrides: Sequence[Any], config_dir: Path | None, *, is_multirun: bool = False) -> None:
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
        for option in chosen(override):
            known = group not in groups() or is_option(group, option, config_dir) or elsewhere
            if not known or not isinstance(option, str):
                raise UsageError(no_such_option(group, as_typed(option), config_dir))


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


def chosen(override: Any) -> list[Any]:
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
            raise UsageError(needs_option(override.input_line, group))
        return [text_of(item) for item in value]
    return [text_of(value)]


def text_of(value: Any) -> Any:
    """Return a quoted string as text, and everything else as it is."""
    return str(getattr(value, "text", value)) if isinstance(value, str) or hasattr(value, "text") else value


def is_option(group: str, option: Any, config_dir: Path | None) -> bool:
    """Return whether a group has an option, in a directory below it too (loss=mine/first)."""
    directories = [CONF, *([config_dir] if config_dir else [])]
    return isinstance(option, str) and any((place / group / f"{option.strip()}.yaml").is_file() for place in directories)


def needs_option(override: str, group: str) -> str:
    """Return that a group has to have one of its options."""
    return f"{override}: {group} needs one of its options: {', '.join(options(group))}."


def no_such_option(group: str, option: str, config_dir: Path | None) -> str:
    """Return which options a group has, those of --config-dir included, or where a path belongs."""
    valid = options(group, config_dir)
    at_path = next((name for name in options(group) if re.search(r"^path: \?\?\?", yaml_of(group, name), re.M)), None)
    if at_path and (place := place_of(option, hub=group == "model")):
        remedy = f"{group}={at_path} {quoted(f'{group}.path', place)}"
        return f"{group}={option}: this is a path, and {group} takes the name of an option. Write {remedy}"
    if option.startswith(("http://", "https://")):
        instead = f"Download it and write {group}={at_path} {group}.path=PLACE." if at_path else f"Valid: {', '.join(valid)}."
        return f"{group}={option}: nothing is read from an address. {instead}"
    if f"{group}={option}".lower() in OTHER_NAMES:
        return f"{group}={option}: there is no such option. Write {OTHER_NAMES[f'{group}={option}'.lower()]}"
    return f"{group}={option}: there is no such option.{nearest(option, valid)} Valid: {', '.join(valid) or 'none'}."


def place_of(option: str, *, hub: bool) -> str | None:
    """Return the path in a text, or the Hub id where one can be given; None if it holds none.

    >>> [place_of(text, hub=True) for text in ("/data/x", "https://huggingface.co/a/b/tree/main", "films", "pairs.jsonl")]
    ['/data/x', 'a/b', None, 'pairs.jsonl']
    """
    if hub and (found := HUB.fullmatch(option)):
        return found["id"]
    if "://" in option:
        return None
    return option if "/" in option or option.endswith(FILES) or option in (".", "..") else None


def yaml_of(group: str, option: str) -> str:
    """Return the text of an option's file."""
    return (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
