"""Which code a configuration may name, and how its nodes become components. Nothing else is ever called.

A node is a mapping with a `_target_`. Its class is a Component, or an optimizer or scheduler of torch's kinds, which stays a
partial. A function, a method and any other class is refused before it is called; of a recorded run, whose directory may come
from somebody else, a module outside dpo_lab is not even imported unless the user trusts it.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, get_args

from dpo_lab.components import Component, ConfigError
from dpo_lab.spelling import nearest

TARGET, PARTIAL = "_target_", "_partial_"
OWN = ("dpo_lab", "torch.optim")  # modules that need no trust
PARTIALS = {"torch.optim.optimizer.Optimizer", "torch.optim.lr_scheduler.LRScheduler"}  # and what is derived from them


class TargetError(ConfigError):
    """A `_target_` that names nothing that a configuration may build; the message follows `KEY=TARGET: `."""


class RoleError(TargetError):
    """A class of another role than its place takes; `expected` are those that it takes."""

    def __init__(self, message: str, expected: Sequence[type[Component]]) -> None:
        super().__init__(message)
        self.expected = tuple(expected)


class NodeError(Exception):
    """A node that cannot become a component."""

    def __init__(self, key: str, cause: Exception) -> None:
        super().__init__(key, cause)
        self.key, self.cause = key, cause


# ---------------------------------------------------------------- from a name to a class
def class_of(target: Any) -> type:
    """Return the class that a `_target_` names; its module is imported.

    Raises:
        TargetError: if there is none, or it is nothing that a configuration may build.
    """
    if not isinstance(target, str) or not all(name.isidentifier() for name in target.split(".")) or "." not in target:
        raise TargetError("this is not a dotted path of a class, for instance dpo_lab.losses.dpo.DPOLoss.")
    part = located(target)
    if not isinstance(part, type) or not (issubclass(part, Component) or is_partial(part)):
        kind = "a class" if isinstance(part, type) else "a function" if callable(part) else f"a {type(part).__name__}"
        raise TargetError(
            f"this is {kind}, and a configuration builds only components: subclasses of dpo_lab.components.Component. "
            "CONTRIBUTING.md shows how to write one."
        )
    return part


def is_partial(kind: type) -> bool:
    """Return whether a class is an optimizer or a scheduler of torch's kinds, which needs more than its settings."""
    return not PARTIALS.isdisjoint(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)


def located(target: str) -> Any:
    """Return what stands at a dotted path: submodules first, then one attribute, then classes within classes.

    Another module that a module has imported (`dpo_lab.hub.os`) does not count as a part of it.
    """
    names = target.split(".")
    holder: Any = imported(names[0])
    for at, name in enumerate(names[1:], start=2):
        if not isinstance(holder, ModuleType | type):
            raise TargetError(f"{'.'.join(names[: at - 1])} is a {type(holder).__name__}, which holds no classes.")
        value = getattr(holder, name, None)
        if isinstance(holder, ModuleType) and (value is None or isinstance(value, ModuleType)):
            value = imported(".".join(names[:at]), beside=holder)
        if value is None:
            raise TargetError(f"{holder.__name__} has no {name}.{nearest(name, names_in(holder))}")
        holder = value
    return holder


def names_in(holder: ModuleType | type) -> list[str]:
    """Return the submodules and classes that a module or a class holds."""
    modules = (module.name for module in iter_modules(getattr(holder, "__path__", ())))
    return [*modules, *(name for name, value in vars(holder).items() if isinstance(value, type))]


def imported(name: str, beside: ModuleType | None = None) -> ModuleType | None:
    """Return a module, imported; None if the module beside it is not a package that holds it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name and beside:
            return None
        if error.name != name:
            raise TargetError(f"the module {name} cannot be imported: {error}.") from error
        raise TargetError(
            f"Python finds no module {name}. Put PYTHONPATH=DIR in front of the command, where DIR holds {name}, or install it."
        ) from error
    except Exception as error:
        raise TargetError(f"the module {name} cannot be imported: {type(error).__name__}: {error}.") from error


# ---------------------------------------------------------------- from a node to a component
def made_of(node: Any, key: str = "", takes: Any = None) -> Any:
    """Return plain data in which every node has become the component that it describes.

    A class is looked at before what stands below it.

    Args:
        takes: annotation of the field that the node stands in; a class of another role is refused before it is made.

    Raises:
        NodeError: with the key of the node and what its class said.
    """
    if isinstance(node, list | tuple):
        return [made_of(item, below(key, at), takes) for at, item in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    if TARGET not in node:
        return {str(name): made_of(value, below(key, name), takes) for name, value in node.items()}
    try:
        kind = class_of(node[TARGET])
        refuse_other_role(kind, roles(takes))
    except TargetError as error:
        raise NodeError(key, error) from error
    taken = {field.name: field.type for field in fields(kind)} if is_dataclass(kind) else {}
    values = {str(name): made_of(value, below(key, name), taken.get(name)) for name, value in node.items() if name != TARGET}
    try:
        if not is_partial(kind):
            return kind(**values)
        if values.pop(PARTIAL, False) is not True:
            raise TargetError(f"{kind.__name__} is made when its parameters exist. Add {PARTIAL}: true")
        inspect.signature(kind).bind_partial(**values)
        return partial(kind, **values)
    except Exception as error:
        raise NodeError(key, error) from error


def roles(takes: Any) -> tuple[type[Component], ...]:
    """Return the components that an annotation names, at any depth: of dict[str, Ranker] and Ranker | None it is Ranker.

    >>> from dpo_lab.losses.base import PreferenceLoss
    >>> roles(dict[str, PreferenceLoss]) == roles(PreferenceLoss | None) == (PreferenceLoss,), roles(float)
    (True, ())
    """
    if isinstance(takes, type) and issubclass(takes, Component):
        return (takes,)
    return tuple(role for inner in get_args(takes) for role in roles(inner))


def refuse_other_role(kind: type, expected: Sequence[type[Component]]) -> None:
    """Raise RoleError if a class has none of the roles that its place takes."""
    if expected and not is_partial(kind) and not issubclass(kind, tuple(expected)):
        wanted = " or ".join(f"{role.__module__}.{role.__qualname__}" for role in expected)
        raise RoleError(f"a subclass of {wanted} belongs here, and {kind.__name__} is not one.", expected)


def below(key: str, name: Any) -> str:
    """Return the key of what stands below a key under a name."""
    return f"{key}.{name}" if key else str(name)


# ---------------------------------------------------------------- what a recorded run names
def foreign_code(node: Any, trusted: Sequence[str], key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, dotted path) of all code outside dpo_lab that a recorded configuration names.

    Code is named by a `_target_`, and by the fields that a class lists in `names_code`: a function there is called with texts of
    the run, which those of dpo_lab are not made for (`records.write_jsonl` writes where its first argument says), and a path of
    dpo_lab may lead to other modules (`dpo_lab.hub.os.system`). So it is foreign wherever it is. Only trusted code is imported.
    """
    if isinstance(node, list | tuple):
        for at, item in enumerate(node):
            yield from foreign_code(item, trusted, below(key, at))
    if not isinstance(node, Mapping):
        return
    if TARGET in node:
        target = str(node[TARGET])
        if not is_below(target, OWN):
            yield below(key, TARGET), target
        if is_below(target, [*OWN, *trusted]):
            yield from ((below(key, name), code) for name, code in code_of(node).items())
    for name, value in node.items():
        yield from foreign_code(value, trusted, below(key, name))


def code_of(node: Mapping[str, Any]) -> dict[str, str]:
    """Return the code that fields of a node name, as dotted paths."""
    return {name: str(node[name]).replace(":", ".") for name in declared(node, "names_code") if node.get(name)}


def declared(node: Mapping[str, Any], about: str) -> tuple[str, ...]:
    """Return the fields that the class of a node lists under a name; none if it is a class that the builder refuses."""
    try:
        return tuple(getattr(class_of(node[TARGET]), about, ()))
    except TargetError:
        return ()


def without_places(node: Any) -> Any:
    """Return a recorded configuration whose parts write into no directory of their own choice, but below the outputs."""
    if isinstance(node, list | tuple):
        return [without_places(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    places = declared(node, "writes_into") if TARGET in node else ()
    return {name: None if name in places else without_places(value) for name, value in node.items()}


def is_below(code: str, modules: Sequence[str]) -> bool:
    """Return whether a dotted path is one of some modules or lies below one.

    >>> is_below("mine.losses.Mine", ["mine"]), is_below("mine_too.losses.Mine", ["mine"])
    (True, False)
    """
    return any(f"{code}.".startswith(f"{module}.") for module in modules)
