"""What every configurable part is: a frozen, keyword-only dataclass whose fields are its schema."""

import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field as DataclassField
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Class = TypeVar("Class")


class ConfigError(ValueError):
    """A configuration that cannot run; the message is all that the user sees."""


class RunError(RuntimeError):
    """A run that must stop; the message is all that the user sees."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field, DataclassField))
def component(cls: type[Class]) -> type[Class]:
    """Make a class a component: frozen, keyword-only, values checked by pydantic, unknown fields refused.

    Constructing a component loads nothing and reads nothing; equal components compare and hash equal.
    """
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    made: type[Class] = dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[assignment]
    return made


class Component:
    """Root of all roles (loss, ranker, sampler, ...); a field typed with a role refuses anything else."""

    names_code: ClassVar[tuple[str, ...]] = ()
    """Fields whose text names code that this part imports (`my.module:score`): `rerun` asks before it imports foreign code."""
    writes_into: ClassVar[tuple[str, ...]] = ()
    """Fields that name a directory which this part writes into, null: the outputs. `rerun` takes none from a recorded run."""
    on_hub: ClassVar[tuple[str, ...]] = ()
    """Fields that name something on the Hugging Face Hub, or a directory in its place, which this part reads."""

    def check(self) -> None:
        """Raise ConfigError if this part, looked at alone, cannot work: why, and what to use instead; load nothing.

        Called for a stage and every part below it before anything heavy loads. A message names the part's own fields as
        `mode=max`; a reader sees their whole keys.
        """

    def check_slowly(self) -> None:
        """Raise ConfigError for what takes seconds to find out: a library that does not load, data that have to be read.

        Called like `check`, if there is work to do, before a model loads.
        """

    def idle(self) -> Mapping[str, str]:
        """Return the fields (dotted: of parts below) that make no difference as the others are set, and why.

        A command line that names one is refused; the part's own are not part of its content.
        """
        return {}

    def content(self) -> dict[str, Any]:
        """Return what determines this part's results, as plain data for a content id.

        Parts that read a file override this to add the file's digest; fields that only change speed or display
        can be left out. A class from outside this package brings the digest of its source: an edited loss is another
        loss (inside the package `artifacts.SCHEMA` says so).
        """
        kind = type(self)
        source = {} if kind.__module__.startswith("dpo_lab.") else {"source": source_digest(kind)}
        idle = self.idle()
        read = {name: value for name, value in plain_fields(self).items() if name not in idle}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", **source, **read}

    def training(self) -> dict[str, Any] | None:
        """Return what determines a training that this part needs before it is used, as plain data; None: it needs none.

        Such a part (a ranker, so far) has a `label`, and defines `train` and `trained`.
        """
        return None

    def train(self, directory: Path) -> dict[str, Any]:
        """Write what is learned into a directory, continuing what a killed call left there; return facts for the manifest."""
        raise NotImplementedError

    def trained(self, directory: Path) -> "Component":
        """Return the part that reads what `train` wrote; in ids it counts as this one."""
        raise NotImplementedError

    def bytes_needed(self, device: str) -> float:
        """Return the bytes of the models that this part loads for its part of a round; the policy is released before.

        Args:
            device: where they are loaded, `cpu` or `cuda`.
        """
        return 0.0

    def not_counted(self) -> str:
        """Return which model `bytes_needed` leaves out because nobody here knows its size, and why; an empty text if none."""
        return ""


def source_digest(kind: Any) -> str | None:
    """Return a digest of the file that defines a class or function, None where there is no file (an interactive session)."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None


def plain_fields(part: Any) -> dict[str, Any]:
    """Return the fields of a component as plain data, components below it as their own content."""
    return {field.name: plain(getattr(part, field.name)) for field in fields(part)}


def plain(value: Any) -> Any:
    """Return a value as plain data that JSON can hold."""
    if isinstance(value, Component):
        return value.content()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def parts_of(part: Any, key: str = "") -> Iterator[tuple[str, Component]]:
    """Yield (dotted key, component) for a component and all below it, in field order."""
    if isinstance(part, Component):
        yield key, part
    if isinstance(part, dict):
        children = [(str(name), value) for name, value in part.items()]
    elif is_dataclass(part):
        children = [(field.name, getattr(part, field.name)) for field in fields(part)]
    else:
        children = []
    for name, value in children:
        yield from parts_of(value, f"{key}.{name}" if key else name)


def refused_parts(stage: Component, key: str = "", *, slowly: bool = False) -> list[str]:
    """Return why a stage or parts below it cannot work, one message for each, in field order.

    Args:
        key: where the part stands in its stage, empty for a stage.
        slowly: ask `check_slowly` in place of `check`.
    """
    messages = []
    for where, part in parts_of(stage, key):
        try:
            part.check_slowly() if slowly else part.check()
        except ConfigError as error:
            messages.append(located(str(error), where, part))
    return list(dict.fromkeys(messages))  # the judge may be the ranker


def located(message: str, key: str, part: Component) -> str:
    """Return a part's message with its fields where they stand, or behind the part's key if it names nothing of the part."""
    if not key:
        return message
    names = [field.name for field in fields(part)]  # type: ignore[arg-type]
    values = [name for name in names if not isinstance(getattr(part, name), Component)]
    if values:
        message = re.sub(rf"(?<![\w.])({'|'.join(values)})(?==)", rf"{key}.\1", message)
    told = re.search(rf"\b({'|'.join([*names, *key.split('.')])})[.=]", message)
    return message if told else f"{key}: {message}"
