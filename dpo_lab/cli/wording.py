"""What pydantic says of a value, in the words of somebody who types it: what it should be, and how that is written."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.cli.conf import groups, options

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


def in_words(problem: Mapping[str, Any], key: str) -> str:
    """Return one of pydantic's errors as what the value of a key should be; of a check of our own what it says.

    >>> in_words({"type": "tuple_type", "input": "foo"}, "tags")
    'Input should be a list: tags=[foo]'
    >>> in_words({"type": "int_type", "input": [0, 1]}, "seed")
    'Input should be one whole number; to run each of them: -m seed=0,1'
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
        return f"{says}: {key}=[{value}]"
    if kind in ("string", "path") and isinstance(value, int | float):
        written = str(value).lower() if isinstance(value, bool) else value
        return f"{says}; to be text it is quoted twice: {key}=\"'{written}'\""
    return says


def part_in_words(value: Any, key: str) -> str:
    """Return how the part that a key holds is chosen: by its group, or as a mapping with a `_target_`."""
    group = key.rpartition(".")[2]
    if value is None and "." in key:
        return f"null is not a part. To leave it out: '~{key}'"
    if group not in groups():
        return "Input should be a part: keys with values, of which _target_ names its class"
    if value in options(group):
        return f"this part is chosen by its group. Write {group}={value}"
    return f"this part is chosen by its group. {choice_of(group)}"


def choice_of(key: str) -> str:
    """Return how a part is chosen by the group at the end of its key; nothing if that is not a group."""
    group = key.rpartition(".")[2]
    return f"Write {group}=OPTION, with one of {', '.join(options(group))}" if group in groups() else ""


def is_scalar(value: Any) -> bool:
    """Return whether a value is one word or number."""
    return isinstance(value, str | int | float)
