"""What pydantic says of a value, in the words of somebody who types it: what it should be, and how that is written."""

import re
from collections.abc import Mapping
from glob import glob
from typing import Any

from dpo_lab.cli.conf import few, groups, listed, optional_groups, options, required, stages, takers
from dpo_lab.conf_files import CONF

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "set": "a list",
    "dict": "keys with values: {key:value}",
    "mapping": "keys with values: {key:value}",
}
ONE_VALUE = ("int", "float", "bool", "string", "path")
PART = ("is_instance_of", "dataclass_type", "dataclass_exact_type", "is_subclass_of")


def in_words(problem: Mapping[str, Any], key: str, whole: Any = None) -> str:
    """Return one of pydantic's errors as what the value of a key should be; of a check of our own what it says.

    >>> in_words({"type": "tuple_type", "input": "foo"}, "tags")
    'Input should be a list: tags=[foo]'
    >>> in_words({"type": "int_type", "input": [0, 1]}, "seed")
    'Input should be one whole number; to run each of them: -m seed=0,1'

    Args:
        whole: the value of the key, where the problem is one of its items.
    """
    error, value = problem["type"], problem["input"]
    if error == "value_error":
        return str(problem["ctx"]["error"])
    if error in PART:
        return part_in_words(value, key)
    if error == "missing" and isinstance(place := problem["loc"][-1], int):
        return f"the list is too short: value {place + 1} is missing"
    kind = error.split("_")[0] if error.endswith(("_type", "_parsing", "_from_float")) else ""
    if kind not in TYPES:
        return str(problem["msg"])
    if kind in ONE_VALUE and isinstance(value, list | tuple) and value and all(is_scalar(item) for item in value):
        one = f"one {TYPES[kind].removeprefix('a ')}"
        several = f"to run each of them: -m {key}={','.join(map(str, value))}"
        return f"Input should be {one}; {several if len(value) > 1 else f'write {key}={value[0]}'}"
    says = f"Input should be {TYPES[kind]}"
    if TYPES[kind] == "a list" and isinstance(value, str):
        return f"{says}: {key}=[{','.join(items_in(value))}]"
    if kind in ("string", "path") and isinstance(value, int | float):
        if len(problem["loc"]) > 1 and isinstance(whole, list | tuple):  # an item: the list is written as a whole
            return f'each value should be text; to be text it is quoted twice: {key}="[{",".join(map(as_text, whole))}]"'
        return f'{says}; to be text it is quoted twice: {key}="{as_text(value)}"'
    return says


def as_text(value: Any) -> str:
    """Return a value as it is written to be text: in quotes.

    >>> as_text(1), as_text(True), as_text("a")
    ("'1'", "'true'", "'a'")
    """
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"


def items_in(text: str) -> list[str]:
    """Return the values of a list that was written as one text: paths of a pattern, words with blanks or commas between them.

    >>> items_in("a b"), items_in("a, b"), items_in("a")
    (['a', 'b'], ['a', 'b'], ['a'])
    """
    return sorted(glob(text)) or [item for item in re.split(r"[\s,]+", text) if item]


def part_in_words(value: Any, key: str) -> str:
    """Return how the part that a key holds is chosen: by its group, or as a mapping with a `_target_`."""
    group = key.rpartition(".")[2]
    if value is None and "." in key:
        return f"null is not a part. To leave it out: '~{key}'"
    if group not in groups():
        needed = next((name for stage in stages() for name in required(stage) if name.startswith(f"{key}.")), "")
        inside = f". Write {needed}={value}" if needed and is_scalar(value) else ", of which _target_ names its class"
        return f"Input should be a part: keys with values{inside}"
    if value in options(group):
        return f"this part is chosen by its group. Write {group}={value}"
    return f"this part is chosen by its group. {choice_of(group)}"


def nothing_chosen(group: str, used: str) -> str:
    """Return what to choose where a part needs an option of a group that has none chosen; empty where that is not so.

    >>> print(nothing_chosen("benchmark", "evaluation.measures.benchmark"))
    benchmark=none: evaluation=benchmark needs one. Write benchmark=lm_eval benchmark.tasks=... or leave out evaluation=benchmark
    """
    needing = [taker for taker in takers(group) if taker.startswith(f"{used.partition('.')[0]}=")] if group != used else []
    found = [option for option in options(group) if option != "none"] if group in optional_groups() and needing else []
    if not found:
        return ""
    text = (CONF / group / f"{found[0]}.yaml").read_text(encoding="utf-8")
    needed = [f"{group}.{key}=..." for key in re.findall(r"^(\w+): \?\?\?", text, re.M)]
    needs = f"{group}=none: {few(needing)} needs one. Write {' '.join([f'{group}={found[0]}', *needed])}"
    return f"{needs} or leave out {few(needing)}"


def choice_of(key: str, roles: tuple[type, ...] = ()) -> str:
    """Return how a part is chosen by the group at the end of its key; nothing if that is not a group.

    >>> from dpo_lab.data.base import Given
    >>> choice_of("data", (Given,))
    'Write data=OPTION, with one of jsonl, snorkel, ultrafeedback'

    Args:
        roles: what the part's place takes: options of another kind are left out.
    """
    group = key.rpartition(".")[2]
    if group not in groups():
        return ""
    return f"Write {group}=OPTION, with one of {listed([name for name in options(group) if fits(group, name, roles)])}"


def fits(group: str, option: str, roles: tuple[type, ...]) -> bool:
    """Return whether an option makes a part of one of some roles; one that names no class is what its first default is."""
    text = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
    from dpo_lab.cli.targets import class_of  # components, of which help and typos need none

    if target := re.search(rf"^(?:{group}:\n  )?_target_: (\S+)", text, re.M):
        return not roles or issubclass(class_of(target[1]), roles)
    first = re.search(r"^defaults:\n  - (\w+)$", text, re.M)
    return not first or first[1] not in options(group) or fits(group, first[1], roles)


def is_scalar(value: Any) -> bool:
    """Return whether a value is one word or number."""
    return isinstance(value, str | int | float)
