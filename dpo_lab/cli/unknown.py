"""A key that does not exist: what was meant by it, and which keys there are. Nothing is proposed that was not composed first."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from dpo_lab.cli.arguments import FLAGS, WITH_VALUE, CommandLine
from dpo_lab.cli.composing import composed
from dpo_lab.cli.conf import few, groups, homes, listed, near_keys, nearest_key, options, question, stages_with
from dpo_lab.cli.foreign import foreign_key, is_taken
from dpo_lab.cli.keys import at, origin, settable
from dpo_lab.cli.other_names import OTHER_NAMES, name_here
from dpo_lab.cli.proposals import UNKNOWN, Mistake, having, in_shell, of_another_tool, with_option
from dpo_lab.cli.wording import choice_of
from dpo_lab.spelling import alike, nearest

MOST = 6
"""Keys of one name that are tried; each takes a tenth of a second."""
KINDS = ("name", "type", "kind", "class")
"""Keys by which other tools choose what a group chooses here."""
SLIP = 0.85
"""Share of equal letters from which a name is a misspelt one of another tool."""


def unknown_key(key: str, cause: Any, line: CommandLine) -> str:
    """Return what was meant by a key that does not exist and which keys stand beside it, or where its value is taken from.

    OmegaConf's exception holds the node in which it looked.
    """
    node, mistake = getattr(cause, "parent_node", None) or {}, Mistake.on(line, key)
    raw = whole(getattr(cause, "parent_node", None))  # which is falsy where nothing stands
    valid = sorted(str(name) for name in node if name not in ("_target_", "hydra"))
    above, _, last = str(getattr(cause, "full_key", None) or key).rpartition(".")
    if not above:
        if foreign := foreign_key(line.stage, key, mistake.others):
            return foreign
        valid = mistake.known()
        meant = at_root(mistake, raw, valid)
        if not meant and (idle := idle_here(mistake, raw)):
            return f"{key} is neither a group nor a key, and {idle}"
        if not meant and (others := stages_with(key)):
            return f"{key} is a key of {', '.join(others)}, not of {line.stage}. Leave it out."
        return f"{key} is neither a group nor a key.{meant or valid_names(valid)}"
    if last in KINDS and above in groups() and mistake.key.lower() not in OTHER_NAMES:  # loss.type=ipo
        chosen = f" Write {above}={mistake.value}" if mistake.value in options(above) else f" {choice_of(above)}"
        return f"{key} is not known: {above} takes the name of an option.{chosen}"
    whole_names = {mistake.key.lower(), mistake.key.replace(".", "_").lower()}
    if whole_names & OTHER_NAMES.keys() and (meant := of_another_tool(mistake)):  # the whole of it is known, group and all
        return f"{key} is not known.{meant}"
    if valid:
        near = accepted(mistake, near_keys(last, valid, raw, above), key.removeprefix(f"{above}.{last}"))
        meant = question(near) or of_options(mistake, above, last) or elsewhere(mistake, raw)
        more = "" if meant and not meant.endswith("?") else valid_names(valid, above)  # what can be typed stands last
        return f"{key} is not known.{meant}{more}"
    parts = above.split(".")
    if shelf := next((part for part in reversed(parts[1:]) if part in groups()), None):
        return on_shelf(key, above, shelf, raw)
    if meant := of_options(mistake, above, last) or elsewhere(mistake, raw):
        return f"{key} is not known.{meant}"
    return f"{key} does not exist: {above} has no keys below it. Write {above}=..."


def unknown_option(stage: str, argument: str, rest: Sequence[str]) -> str:
    """Return what to write instead of an option that does not exist; Hydra takes --experiment=x for its rerun."""
    dashed, _, value = argument.lstrip("-").partition("=")
    name = dashed.replace("-", "_")
    value = value or (rest[0] if rest and "=" not in rest[0] and not rest[0].startswith("-") else "")
    mistake = Mistake(stage, f"{name}={value or UNKNOWN}", ())
    if meant := of_another_tool(mistake):
        return f"{argument}: settings have no dashes, and this one has another name.{meant}"
    known = [name] if "." in name else [key for key in homes(name) if not value or mistake.accepts([f"{key}={value}"])]
    if known:
        return f"{argument}: settings have no dashes. Write {few([as_setting(mistake, key, value) for key in known])}"
    valid = (*WITH_VALUE.values(), "--info", *FLAGS.values(), "--help", "--version")
    return f"{argument} is not an option.{nearest(argument, valid)} Valid: {', '.join(valid)}; settings are written key=value."


def as_setting(mistake: Mistake, key: str, value: str) -> str:
    """Return how a key is set that was written with dashes: a switch to true, a group by its options, a list in brackets."""
    if key in groups() and not value:
        return choice_of(key).removeprefix("Write ")
    found = composed(mistake.stage, (), mistake.config_dir)
    default = at(found.raw, key) if found else None
    if isinstance(default, bool) and not value:
        return f"{key}=true"
    if isinstance(default, list) and value and not value.startswith("["):
        return f"{key}=[{value}]"
    return f"{key}={value or UNKNOWN}"


def at_root(mistake: Mistake, raw: Mapping[str, Any], valid: Sequence[str]) -> str:
    """Return what was meant by a key that begins like none: a name of another tool, a similar name, or a key of a group."""
    first, _, rest = mistake.key.partition(".")
    near = accepted(mistake, near_keys(first, valid, raw, ""), f".{rest}" if rest else "")
    exact = any(key.rpartition(".")[2] == first for key in near)
    if meant := "" if exact else elsewhere(mistake, raw):
        return meant
    return f"{question(near)} All keys: dpo-lab {mistake.stage} --help" if near and not rest else question(near)


def elsewhere(mistake: Mistake, raw: Mapping[str, Any]) -> str:
    """Return what was meant by a key that stands somewhere else: what another tool calls so, or a key of the same name."""
    if known := of_another_tool(mistake):
        return known
    name = mistake.key.rpartition(".")[2]
    keys = [key for key in settable(raw, "") if key.rpartition(".")[2] == name]
    if near := accepted(mistake, keys):
        return question(near)
    if (meant := alike(name, OTHER_NAMES, cutoff=SLIP)) and (known := of_another_tool(mistake.named(meant))):
        return known
    group = mistake.key.partition(".")[0]  # data.jsonl.path is a path of data, not of another group
    keys = [key for key in homes(name) if group not in groups() or key.startswith(f"{group}.")]
    found = (with_option(mistake, [f"{key}={mistake.value}"]) for key in keys)
    return next((f" Write {in_shell(words)}" for words in found if words and mistake.works(words)), "")


def accepted(mistake: Mistake, keys: Sequence[str], rest: str = "") -> list[str]:
    """Return the keys with which the command starts; else those of the same name, and similar ones that take the value.

    A single key that is spelt like the typed one is not tried: that would import seconds of libraries for a typo.
    """
    near = [key for key in keys if key.partition(".")[0] not in groups() or is_taken(mistake.stage, key)]
    named = [key for key in dict.fromkeys(f"{key}{rest}" for key in near[:MOST]) if mistake.accepts([f"{key}={mistake.value}"])]
    name = mistake.key.rpartition(".")[2]
    sure = [key for key in named if key.rpartition(".")[2] == name or alike(name, [key.rpartition(".")[2]])]
    if mistake.value == UNKNOWN or (len(named) == 1 and sure):
        return named
    working = [key for key in named if mistake.works([f"{key}={mistake.value}"])]
    if not working and all(mistake.idle([f"{key}={mistake.value}"]) for key in named):
        return []  # as a setting of training has none where nothing is trained
    return working or [key for key in named if key in sure or not mistake.not_taken([f"{key}={mistake.value}"])]


def idle_here(mistake: Mistake, raw: Mapping[str, Any]) -> str:
    """Return what is said of a key of this name that makes no difference in the stage; empty if there is none."""
    keys = [key for key in settable(raw, "") if key.rpartition(".")[2] == mistake.key][:MOST]
    return next(filter(None, (mistake.idle([f"{key}={mistake.value}"]) for key in keys)), "")


def of_options(mistake: Mistake, group: str, name: str) -> str:
    """Return which options of a group have a key that the chosen one has not, or nothing."""
    name = name_here(name)
    rest = mistake.key.removeprefix(f"{group}.").partition(".")[2]  # what was typed may stand further below
    setting = f"{group}.{name}{'.' if rest else ''}{rest}={mistake.value}"
    options = having(group, name)
    options = [option for option in options if mistake.works([f"{group}={option}", setting])] or options
    words = mistake.best([f"{group}={option}", setting] for option in options)
    if not words:
        return ""
    named = few([f"{group}={option}" for option in options])
    return f" {named} has it: {in_shell(words)}"


def valid_names(names: Sequence[str], part: str = "") -> str:
    """Return a sentence that lists the names that are valid in a part, or at the root."""
    return f" Valid{' in ' if part else ''}{part}: {listed(names)}."


def on_shelf(key: str, above: str, shelf: str, raw: Mapping[str, Any]) -> str:
    """Return where a key is set whose part is taken from a shelf, or which keys that shelf has instead.

    >>> raw = {"judge": "${ranker}", "ranker": {"dtype": 8}}
    >>> on_shelf("evaluation.judge.dtype", "evaluation.judge", "judge", raw)
    'evaluation.judge.dtype cannot be set there: evaluation.judge is taken from ranker. Write ranker.dtype=...'
    """
    place, _, last = origin(raw, key[key.rindex(f"{shelf}.") :]).rpartition(".")
    there, taken = at(raw, place), f"{key} cannot be set there: {above} is taken from {origin(raw, shelf)}"
    if not isinstance(there, Mapping):
        return f"{taken}, and {place} has no keys below it. Write {place}=..."
    if last in there:
        return f"{taken}. Write {place}.{last}=..."
    valid = sorted(str(name) for name in there if name != "_target_")
    return f"{taken}, which has no {last}.{nearest_key(last, valid, raw, place)} Valid in {place}: {listed(valid)}."


def whole(node: Any) -> Mapping[str, Any]:
    """Return the raw configuration that a node of OmegaConf belongs to."""
    from omegaconf import OmegaConf

    root = node._get_root() if OmegaConf.is_config(node) else {}
    return cast(Mapping[str, Any], OmegaConf.to_container(root, resolve=False) if root else {})
