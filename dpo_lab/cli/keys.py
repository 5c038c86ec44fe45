"""Dotted keys of a raw configuration, in which ${...} stands unresolved: what stands at one, and where it is set."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

REFERENCE = r"\$\{([a-z_][\w.]*)\}"  # ${recipe.beta}, but no resolver such as ${oc.env:HOME}
EXEMPT = ("paths", "hydra")  # read by the edge itself


def references(text: str) -> set[str]:
    """Return the dotted keys that a text names by ${...}.

    >>> references("beta: ${recipe.beta}")
    {'recipe.beta'}
    """
    return set(re.findall(REFERENCE, text))


def references_below(node: Any) -> set[str]:
    """Return the dotted keys that a raw node and all below it name by ${...}."""
    if isinstance(node, Mapping | list):
        return set().union(*(references_below(value) for value in (node.values() if isinstance(node, Mapping) else node)))
    return references(node) if isinstance(node, str) else set()


def overlaps(key: str, used: set[str]) -> bool:
    """Return whether a key, something above it or something below it is among the used ones."""
    return any(f"{key}.".startswith(f"{use}.") or f"{use}.".startswith(f"{key}.") for use in used)


def at(raw: Any, key: str) -> Any:
    """Return the raw node at a dotted key; a string that stands on the way is returned as it is."""
    for part in key.split("."):
        if not isinstance(raw, Mapping):
            return raw
        raw = raw.get(part)
    return raw


def origin(raw: Mapping[str, Any], key: str) -> str:
    """Return the key that the user sets for the value at `key`: ${...} is followed to its shelf.

    >>> origin({"loss": {"beta": "${recipe.beta}"}, "recipe": {"beta": 0.1}}, "loss.beta")
    'recipe.beta'
    """
    parts = key.split(".")
    for length in range(1, len(parts) + 1):
        node = at(raw, ".".join(parts[:length]))
        if isinstance(node, str) and (found := re.fullmatch(REFERENCE, node)):
            return origin(raw, ".".join([found[1], *parts[length:]]))
    return key


def with_typed_keys(message: str, raw: Mapping[str, Any], typed: Collection[str]) -> str:
    """Return a message in which a key whose value comes from one that was typed has the name of that one.

    A part knows its own fields: trainer.token_budget. Beside recipe.token_budget, which was typed, that would be set twice.

    >>> raw = {"trainer": {"token_budget": "${recipe.token_budget}"}, "recipe": {"token_budget": 512}}
    >>> [with_typed_keys("Use trainer.token_budget=256", raw, typed) for typed in (["recipe.token_budget"], [])]
    ['Use recipe.token_budget=256', 'Use trainer.token_budget=256']
    >>> with_typed_keys("made.sampler.top_p=2", {"made": {"sampler": "${sampler}"}, "sampler": {"top_p": 2}}, [])
    'sampler.top_p=2'
    """

    def typed_one(key: re.Match[str]) -> str:
        source, part = origin(raw, key[0]), key[0].rpartition(".")[0]
        is_on_shelf = origin(raw, part) != part  # its part is taken as a whole, and cannot be set below
        return source if source in typed or is_on_shelf else key[0]

    return re.sub(r"(?<![\w./])[a-z_]+(?:\.\w+)+(?==)", typed_one, message)


def settable(raw: Mapping[str, Any], part: str) -> Iterator[str]:
    """Yield the keys below a part by which its values can be set, at the part itself and where ${...} takes them from.

    What a shelf gives as a whole is set on the shelf alone.

    >>> raw = {"loss": {"loss": {"beta": "${recipe.beta}"}}, "recipe": {"beta": 0.1}, "data": {"sampler": "${sampler}"}}
    >>> list(settable(raw, "loss")), list(settable({**raw, "sampler": {"top_p": 1}}, "data"))
    (['loss.loss', 'loss.loss.beta', 'recipe.beta'], ['sampler', 'sampler.top_p'])
    """
    node = at(raw, part) if part else raw
    for name in node if isinstance(node, Mapping) else ():
        key = f"{part}.{name}" if part else str(name)
        if name in ("_target_", "hydra"):
            continue
        source = origin(raw, key)
        if isinstance(at(raw, source), Mapping):
            yield source
            yield from settable(raw, source)
        else:
            yield from dict.fromkeys((key, source))


def reachable(raw: Mapping[str, Any], taken: Sequence[str]) -> set[str]:
    """Return the dotted keys that a stage takes, directly or through ${...}."""
    seen: set[str] = set()
    waiting = list(taken)
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += references_below(at(raw, key))
    return seen


def has_no_effect(raw: Mapping[str, Any], taken: Sequence[str], key: str) -> bool:
    """Return whether a key stands on a shelf that nothing takes from; a group of no part (benchmark=none) has nothing to lose."""
    group = key.split(".")[0]
    return raw.get(group) is not None and group not in EXEMPT and not overlaps(key, reachable(raw, taken))
