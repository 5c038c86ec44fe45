"""From a composed configuration to the stage that it describes; refuses what cannot be or has no effect."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from dpo_lab.cli.arguments import plain_key
from dpo_lab.cli.composing import Composed, composed
from dpo_lab.cli.conf import groups, nearest_key, options
from dpo_lab.cli.effect import refuse_without_effect
from dpo_lab.cli.help import fields_of
from dpo_lab.cli.idle import refuse_idle
from dpo_lab.cli.keys import at, has_no_effect, origin, references_below
from dpo_lab.cli.targets import NodeError, RoleError, TargetError, class_of, made_of
from dpo_lab.cli.wording import choice_of, in_words, nothing_chosen
from dpo_lab.components import Component, ConfigError, plain
from dpo_lab.conf_files import CONF
from dpo_lab.plain_data import as_typed, leaves
from dpo_lab.spelling import nearest


class Stage(Protocol):
    """A component that does something."""

    run: Callable[..., Any]
    """Runs the stage and returns its figures if it has any; one that records what asked for it takes a `call`."""


def build(config: DictConfig) -> Stage:
    """Return the stage of a composed configuration that still has its `hydra` node.

    A stage takes the root keys that are its fields. Every other root key is a group, a shelf that only ${...} reaches.

    Raises:
        ConfigError: naming the key that the user sets, what was found and what to change.
    """
    choices = dict(config.hydra.runtime.choices)
    named = cast(list[str], OmegaConf.to_container(config.hydra.overrides.task, resolve=False))
    raw = unresolved(config)
    taken = taken_by(raw)
    refuse_stray(raw, taken, choices)
    refuse_without_effect(raw, taken, choices, named, lambda words: tried(config, words))
    try:
        of_stage = resolved(config)
    except OmegaConfBaseException as error:
        raise ConfigError(dangling_message(error, raw)) from None
    if missing := without_value(of_stage, raw):
        have = "has no value" if len(missing) == 1 else "have no value"
        raise ConfigError(f"{', '.join(missing)} {have}. Add {' '.join(f'{key}=...' for key in missing)}")
    stage = made(of_stage, raw)
    if not choices.get("debug"):  # the same run made short, whose settings may wait for more rounds
        refuse_idle(cast(Component, stage), of_stage, raw, named)
    return stage


def without_value(of_stage: Mapping[str, Any], raw: Mapping[str, Any]) -> list[str]:
    """Return the keys that the user has to set for a stage and has not."""
    return sorted({origin(raw, key) for key, value in leaves(of_stage) if value == "???"})


# ---------------------------------------------------------------- tried before it is proposed
class Trial(NamedTuple):
    """How far a command line gets."""

    refused: str = ""
    """Why its stage could not start; empty if it could."""
    missing: tuple[str, ...] = ()
    """Keys that the user has to set besides."""
    is_made: bool = True
    """Whether the parts take their values; what is refused then is refused by a rule about several parts."""
    idle: str = ""
    """What is said of a word that makes no difference in this stage."""

    @property
    def starts(self) -> bool:
        """Whether the stage could start, once what is missing is set."""
        return not self.refused


def trial(found: Composed, words: Sequence[str]) -> Trial:
    """Return how far a composed command line gets, as far as one can tell without loading a model or reading data."""
    from dpo_lab.rules.check import refuse_illegal

    taken = taken_by(found.raw)
    if idle := next((word for word in words if has_no_effect(found.raw, taken, plain_key(word))), ""):
        return Trial(f"`{idle}` has no effect", is_made=False)
    try:
        of_stage = resolved(found.config)
        if missing := without_value(of_stage, found.raw):
            return Trial(missing=tuple(missing))
        stage = cast(Component, made(of_stage, found.raw))
    except (ConfigError, OmegaConfBaseException) as error:
        return Trial(str(error), is_made=False)
    try:
        if not found.choices.get("debug"):
            refuse_idle(stage, of_stage, found.raw, list(words))
    except ConfigError as error:
        return Trial(str(error), idle=str(error))
    try:
        refuse_illegal(stage)
    except ConfigError as error:
        return Trial(str(error))
    return Trial()


def trial_of(stage: str, words: tuple[str, ...], config_dir: Path | None) -> Trial | None:
    """Return how far a stage gets with some overrides, None if they cannot be composed."""
    return _trial_of(stage, words, config_dir, Path.cwd())


@lru_cache(maxsize=64)
def _trial_of(stage: str, words: tuple[str, ...], config_dir: Path | None, _: Path) -> Trial | None:
    found = composed(stage, words, config_dir)
    return trial(found, words) if found else None


def tried(config: Any, words: Sequence[str]) -> list[str] | None:
    """Return overrides, and behind them KEY=... for what they need, with which a stage could be made; None if it could not."""
    found = trial_of(str(config.hydra.job.config_name), tuple(words), None)
    return [*words, *(f"{key}=..." for key in found.missing)] if found and found.starts else None


def build_again(recorded: Mapping[str, Any]) -> Stage:
    """Return the stage of a resolved configuration that was recorded; ConfigError if its classes are others by now."""
    return made(recorded, recorded)


def made(of_stage: Mapping[str, Any], raw: Mapping[str, Any]) -> Stage:
    """Return the stage of a resolved configuration; `raw` tells which key the user sets for a value that is refused."""
    try:
        return cast(Stage, made_of(of_stage))
    except NodeError as error:
        raise ConfigError(value_message(error.cause, error.key, raw)) from error


# ---------------------------------------------------------------- the configuration as data
def unresolved(config: DictConfig) -> dict[str, Any]:
    """Return a composed configuration without its `hydra` node, every ${...} as it is."""
    whole = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    return {key: value for key, value in whole.items() if key != "hydra"}


def taken_by(raw: Mapping[str, Any]) -> list[str]:
    """Return the root keys that a stage takes: the fields of its class, which is imported only if it is not one of our own."""
    if raw.get("_target_") in own_stages():
        return fields_of(str(raw["_target_"]))
    try:
        kind = class_of(raw.get("_target_"))
        if not is_dataclass(kind) or not hasattr(kind, "run"):
            raise TargetError("this is not a stage. It has to be a component with a method `run`.")
    except TargetError as error:
        raise ConfigError(f"_target_={as_typed(raw.get('_target_'))}: {error}") from error
    return [field.name for field in fields(kind)]


@cache
def own_stages() -> frozenset[str]:
    """Return the classes of the stages that conf/ has."""
    texts = (path.read_text(encoding="utf-8") for path in CONF.glob("*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"^_target_: (dpo_lab\.stages\.\S+)$", text, re.M))


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return what a stage takes of a composed configuration, as plain data; what ${...} names is copied off the shelves."""
    whole = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.resolve(whole)
    everything = cast(dict[str, Any], plain(OmegaConf.to_container(whole)))
    taken = {"_target_", *taken_by(everything)}
    return {name: value for name, value in everything.items() if name in taken}


def differences(config: Mapping[str, Any], default: Mapping[str, Any], part: str = "") -> list[dict[str, Any]]:
    """Return {key, default, value} of every value that is not what a stage's default configuration has there.

    Where another class stands, its `_target_` says so; values that the default has not are compared with the class's own.

    >>> differences({"beta": 0.3, "data": {"rounds": 2}}, {"beta": 0.1, "data": {"rounds": 2}})
    [{'key': 'beta', 'default': 0.1, 'value': 0.3}]
    """
    before = {**own_defaults(config.get("_target_")), **default}
    changed: list[dict[str, Any]] = []
    for name, value in config.items():
        key, other = f"{part}.{name}" if part else name, before.get(name)
        if isinstance(value, Mapping):
            changed += differences(value, other if isinstance(other, Mapping) else {}, key)
        elif name not in before or value != other:
            changed.append({"key": key, "default": other, "value": value})
    return changed


def own_defaults(target: str | None) -> dict[str, Any]:
    """Return the defaults of a class's fields as plain data, empty if it is not a dataclass."""
    kind = class_of(target) if target else None
    own = fields(kind) if is_dataclass(kind) else ()
    return {field.name: as_node(field.default) for field in own if field.default is not MISSING}


def as_node(value: Any) -> Any:
    """Return a default as it stands in a configuration: a component with its `_target_`."""
    if not isinstance(value, Component):
        return plain(value)
    kind = type(value)
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **own_defaults_of(value)}


def own_defaults_of(value: Any) -> dict[str, Any]:
    """Return the fields of a component as they stand in a configuration."""
    return {field.name: as_node(getattr(value, field.name)) for field in fields(value)}


# ---------------------------------------------------------------- values that a class refuses
def value_message(cause: Exception, part: str, raw: Mapping[str, Any]) -> str:
    """Return what is wrong with the values of a part, at the keys that the user sets."""
    if isinstance(cause, ValidationError):
        problems: dict[str, list[dict[str, Any]]] = {}
        for error in cause.errors(include_url=False):  # one key has several when each branch of a union refuses it
            problems.setdefault(".".join(str(name) for name in (part, *error["loc"][:1]) if name != ""), []).append(dict(error))
        return " ".join(refusal(key, found, part, raw) for key, found in problems.items())
    key = f"{origin(raw, part)}._target_" if part else "_target_"
    if isinstance(cause, TargetError):
        instead = choice_of(origin(raw, part), cause.expected) if isinstance(cause, RoleError) else ""
        return f"{key}={as_typed(at(raw, key))}: {cause} {instead}".rstrip()
    if isinstance(cause, ConfigError):
        return f"{part}: {cause}" if part else str(cause)
    return f"{key}={at(raw, key)} cannot be made: {root_cause(cause)}"


def refusal(used: str, problems: Sequence[dict[str, Any]], part: str, raw: Mapping[str, Any]) -> str:
    """Return pydantic's errors of one key as a sentence: key=value, what is valid, the nearest name, where it is used."""
    key, first = origin(raw, used), problems[0]
    if first["type"] == "unexpected_keyword_argument":
        valid = sorted(known_fields(raw, part))
        meant = nearest_key(used.rpartition(".")[2], valid, raw, origin(raw, part))
        return f"{key} is not known.{meant} Valid: {', '.join(valid)}."
    if first["type"].startswith("missing") and len(first["loc"]) == 1:
        return f"{key} has no value. Add {key}=..."
    value = at(raw, key) if len(first["loc"]) > 1 else first["input"]  # an item of a list: show the whole list
    if isinstance(value, Mapping) and len(first["loc"]) > 1:
        key, used, value = f"{key}.{first['loc'][1]}", f"{used}.{first['loc'][1]}", first["input"]
    if value is None and (chosen := nothing_chosen(origin(raw, used), used)):
        return chosen
    expected = re.findall(r"'([^']+)'", str(first.get("ctx", {}).get("expected", "")))
    says = " or ".join(dict.fromkeys(in_words(problem, key, value) for problem in problems))
    as_used = f" (used as {used})" if key != used else ""
    return f"{key}={as_typed(value)}: {says}{as_used}.{nearest(str(value), expected)}"


def known_fields(raw: Mapping[str, Any], part: str) -> list[str]:
    """Return the fields of the class of a part."""
    node = at(raw, origin(raw, part)) if part else raw
    return [field.name for field in fields(class_of(node["_target_"]))]


def root_cause(error: BaseException) -> str:
    """Return the message at the bottom of a chain of exceptions, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


# ---------------------------------------------------------------- who takes which key
def dangling_message(error: OmegaConfBaseException, raw: Mapping[str, Any]) -> str:
    """Return which value has a ${...} that leads nowhere, which OmegaConf does not say when it resolves a whole tree."""
    found = re.search(r"Interpolation key '([^']+)' not found", str(error))
    if variable := re.search(r"Environment variable '(\w+)' not found", str(error)):
        return no_variable(variable[1])
    if not found:
        return f"{str(error).splitlines()[0]}."
    values = dict(leaves(raw))
    holder = next((key for key, value in values.items() if found[1] in references_below(value)), "a value")
    if found[1] in groups():  # one that has no option unless one is chosen
        return f"{holder} is taken from {found[1]}, of which nothing is chosen. Add {found[1]}={options(found[1])[0]}"
    return f"{holder} is taken from {found[1]}, which does not exist.{nearest(found[1], values)}"


def no_variable(name: str) -> str:
    """Return what to do about ${oc.env:NAME} where the environment has no such variable."""
    return f"${{oc.env:{name}}}: the environment has no variable {name}. Set it, or write ${{oc.env:{name},DEFAULT}}"


def refuse_stray(raw: Mapping[str, Any], taken: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Raise ConfigError for a root key that is neither a field of the stage nor a group."""
    for key in raw:
        if key not in taken and key not in choices and key != "_target_":
            stage = raw["_target_"].rpartition(".")[2]
            valid = sorted({*taken, *(name for name in choices if "/" not in name)})
            raise ConfigError(
                f"{key} is neither a field of {stage} nor a group of conf/.{nearest(key, valid)} Valid: {', '.join(valid)}."
            )
