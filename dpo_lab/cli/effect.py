"""Settings on a shelf that nothing takes from: who would take them, tried before it is proposed."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.cli.arguments import plain_key
from dpo_lab.cli.conf import few, listed, takers
from dpo_lab.cli.foreign import instead_of
from dpo_lab.cli.keys import at, has_no_effect
from dpo_lab.cli.remedies import Try
from dpo_lab.components import ConfigError
from dpo_lab.plain_data import leaves

MOST = 6
"""Options that are tried; each takes some tenths of a second."""


def refuse_without_effect(
    raw: Mapping[str, Any], taken: Sequence[str], choices: Mapping[str, Any], named: Sequence[str], tried: Try
) -> None:
    """Raise ConfigError if the command line names a shelf, or a value on one, that nothing takes from.

    Args:
        tried: says whether the command works with other overrides.
    """
    idle = [override for override in named if has_no_effect(raw, taken, plain_key(override))]
    if not idle:
        return
    override, *others = idle
    if others and not any(takers_of(plain_key(word), taken) for word in idle):
        raise ConfigError(f"`{'`, `'.join(idle)}` have no effect: {not_taken(taken)} {instead_of(idle, needed(raw, taken))}")
    raise ConfigError(f"`{override}` has no effect: {why_without_effect(override, taken, choices, raw, named, tried)}")


def not_taken(taken: Sequence[str]) -> str:
    """Return what a stage takes."""
    return f"this stage takes only {listed(taken)}."


def needed(raw: Mapping[str, Any], taken: Sequence[str]) -> list[str]:
    """Return KEY=... for what a stage has to be told and is not; read from the configuration, without its classes.

    >>> needed({"policy": "???", "force": False, "loss": {"path": "???"}}, ["policy", "force"])
    ['policy=...']
    """
    return [f"{key}=..." for key, value in leaves({name: raw.get(name) for name in taken}) if value == "???"]


def why_without_effect(
    override: str,
    taken: Sequence[str],
    choices: Mapping[str, Any],
    raw: Mapping[str, Any],
    named: Sequence[str],
    tried: Try,
) -> str:
    """Return who does not take an override, and what would make it count; nothing that does not work is proposed."""
    key, value = plain_key(override), override.partition("=")[2]
    would = takers_of(key, taken)
    if not would:
        return f"{not_taken(taken)} {instead_of([override], needed(raw, taken))}"
    groups = list(dict.fromkeys(taker.split("=")[0] for taker in would))
    others = [text for text in named if text != override]
    if chosen := [taker for taker in would if choices.get(taker.split("=")[0]) == taker.split("=")[1]]:
        instead = next(
            (text for text in others if tried([word for word in named if word != text]) is not None), "another setting"
        )
        return f"{chosen[0]} takes {key}, but {instead} gives that value directly. Leave one of the two out."
    name = key.rpartition(".")[2]  # loss=simpo has its own beta, where other losses take recipe.beta
    own = next((group for group in groups if name in (at(raw, group) or {})), None)
    if own and tried([*others, f"{own}.{name}={value}"]) is not None:
        return f"{own}={choices[own]} has its own value. Write {own}.{name}={value}"
    now = " and ".join(f"{group}={choices[group]}" for group in groups)
    found = [words for taker in would[:MOST] if (words := tried([*without(named, taker), taker])) is not None]
    use = few([" ".join([word for word in words if word not in named]) for words in found])
    return f"with {now} nothing takes {key}. {f'Use {use}' if use else 'Leave it out.'}"


def takers_of(key: str, taken: Sequence[str]) -> list[str]:
    """Return the options that would take a key into a stage; a taker that is a shelf itself (judge=same) counts by its own."""
    would: list[str] = []
    waiting, seen = [key], {key}
    while waiting:
        for taker in takers(waiting.pop()):
            group = taker.split("=")[0]
            if group in taken:
                would.append(taker)
            elif group not in seen:
                seen.add(group)
                waiting.append(group)
    return sorted(dict.fromkeys(would))


def without(named: Sequence[str], word: str) -> list[str]:
    """Return the overrides that do not set what a word sets."""
    return [text for text in named if plain_key(text) != plain_key(word)]
