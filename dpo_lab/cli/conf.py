"""What the text of conf/ alone says (stages, groups, options, who takes what), and the nearest key."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.cli.keys import overlaps, references, settable
from dpo_lab.cli.other_names import name_here
from dpo_lab.conf_files import CONF
from dpo_lab.spelling import abbreviated, like

PRIVATE = ("hydra_defaults", "groups")  # files at the top of conf/ that are not stages
MOST_WITH_COMMAS = 12
"""Names that a message lists with commas; more are listed with blanks, or by a command."""


def stages() -> dict[str, str]:
    """Return each stage's name and what it does, as the first line of its yaml says."""
    names = (path.stem for path in CONF.glob("*.yaml") if path.stem not in PRIVATE)
    return {name: summary(CONF / f"{name}.yaml") for name in sorted(names)}


def required(stage: str) -> dict[str, str]:
    """Return the keys that a stage has to be told, with what its yaml says of each.

    >>> required("train"), required("export")["policy"].split(",")[0], list(required("rank"))
    ({}, 'a finished run (its last policy)', ['candidates.path'])
    """
    found, above = {}, ""
    for line in (CONF / f"{stage}.yaml").read_text(encoding="utf-8").splitlines():
        if part := re.match(r"(\w+):(?: *#.*)?$", line):
            above = f"{part[1]}."
        if key := re.match(r"( *)(\w+): \?\?\? +# (.*)$", line):
            found[f"{above if key[1] else ''}{key[2]}"] = key[3]
    return found


def stages_with(key: str) -> list[str]:
    """Return the stages whose own yaml sets a key at its root.

    >>> stages_with("seed")[:2], stages_with("nothing")
    (['chat', 'doctor'], [])
    """
    line = re.compile(rf"^{re.escape(key)}:", re.M)
    return [stage for stage in stages() if line.search((CONF / f"{stage}.yaml").read_text(encoding="utf-8"))]


def recorded() -> list[str]:
    """Return the stages whose runs record how they were called, so that they can be repeated: those that tag their runs.

    >>> recorded()
    ['train']
    """
    return [name for name in stages() if re.search(r"^tags: ", (CONF / f"{name}.yaml").read_text(encoding="utf-8"), re.M)]


def groups() -> dict[str, str]:
    """Return each group's name and what it decides, in the order of groups.yaml."""
    text = (CONF / "groups.yaml").read_text(encoding="utf-8")
    return {found[1]: found[2] for found in re.finditer(r"^ +- ([a-z_]+): \S+ +# (.*)$", text, re.M)}


def optional_groups() -> list[str]:
    """Return the groups that have no option unless one is chosen."""
    return re.findall(r"^ +- ([a-z_]+): null ", (CONF / "groups.yaml").read_text(encoding="utf-8"), re.M)


def options(group: str, more: Path | None = None) -> list[str]:
    """Return the options of a group, sorted; `more` is a second configuration directory (--config-dir)."""
    directories = [CONF, *([more] if more else [])]
    return sorted({path.stem for directory in directories for path in (directory / group).glob("*.yaml")})


def listed(names: Sequence[str]) -> str:
    """Return names as a message lists them: many have no commas, which would hide the words.

    >>> listed(["ipo", "dpo"]), listed([]), listed([str(number) for number in range(MOST_WITH_COMMAS + 1)])
    ('ipo, dpo', 'none', '0 1 2 3 4 5 6 7 8 9 10 11 12')
    """
    return (", " if len(names) <= MOST_WITH_COMMAS else " ").join(names) or "none"


def valid_options(group: str, more: Path | None = None, *, meant: str = "") -> str:
    """Return which options a group has; of many, beside a proposal, the command that lists them.

    >>> valid_options("quant", meant="4bit"), valid_options("loss", meant="ipo")
    ('Valid: 4bit, 8bit, none.', 'All options: dpo-lab ls loss')

    Args:
        more: a second configuration directory (--config-dir).
        meant: what is proposed.
    """
    valid = options(group, more)
    if meant and len(valid) > MOST_WITH_COMMAS and valid == options(group):
        return f"All options: dpo-lab ls {group}"
    return f"Valid: {listed(valid)}."


def summary(path: Path) -> str:
    """Return the first sentence of a yaml's header, without the command after the colon."""
    lines = (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((line.rpartition(": ")[0] or line for line in lines if not line.startswith("@")), "")


def takers(key: str) -> list[str]:
    """Return the options whose yaml reads a key, a part of it or the whole that it belongs to by ${...}.

    >>> takers("ranker.tokens_per_batch")
    ['data=on_policy', 'judge=same']
    """
    files = ((path, references(path.read_text(encoding="utf-8"))) for path in CONF.glob("*/*.yaml"))
    return sorted(f"{path.parent.name}={path.stem}" for path, used in files if overlaps(key, used))


def homes(name: str) -> list[str]:
    """Return the keys of conf/ that a name without its group can mean; the name itself if it is a stage's own key or a group.

    >>> homes("min_gap"), homes("seed"), homes("loss"), homes("nothing")
    (['pairing.min_gap'], ['seed'], ['loss'], [])
    """
    line = re.compile(rf"^{re.escape(name)}:", re.M)

    def holds(path: Path) -> bool:
        return bool(line.search(path.read_text(encoding="utf-8")))

    if name in groups() or any(holds(CONF / f"{stage}.yaml") for stage in stages()):
        return [name]
    return [f"{group}.{name}" for group in groups() if any(holds(path) for path in (CONF / group).glob("*.yaml"))]


def nearest_key(name: str, valid: Sequence[str], raw: Mapping[str, Any], part: str) -> str:
    """Return a question that names what was meant by an unknown name in a part, or nothing.

    >>> nearest_key("r", ["alpha", "rank"], {}, "adapter"), nearest_key("weight_decy", ["weight_decay"], {}, "optim")
    (" Did you mean 'adapter.rank'?", " Did you mean 'optim.weight_decay'?")
    """
    return question(near_keys(name, valid, raw, part))


def question(names: Sequence[str]) -> str:
    """Return a question whether one of some names was meant, nothing without any."""
    return f" Did you mean {few([repr(name) for name in names])}?" if names else ""


def near_keys(name: str, valid: Sequence[str], raw: Mapping[str, Any], part: str) -> list[str]:
    """Return the keys that an unknown name in a part can mean, none if none is near.

    The same name further down comes first, then a similar one beside it, then a similar one further down.

    >>> raw = {"loss": {"alpha": 0.5, "loss": {"beta": "${recipe.beta}"}}, "recipe": {"beta": 0.1}}
    >>> near_keys("beta", ["alpha", "loss"], raw, "loss")
    ['loss.loss.beta', 'recipe.beta']
    """
    before = f"{part}." if part else ""
    other = name_here(name)
    if other != name and other in valid:
        return [f"{before}{other}"]
    below: dict[str, dict[str, None]] = {}
    for key in settable(raw, part):
        if key != f"{part}.{name}":  # there when a plus sign added the unknown key
            below.setdefault(key.rpartition(".")[2], {})[key] = None
    if name not in below and (beside := like(name, valid) or like(name.lower(), valid) or abbreviated(name, valid)):
        return [f"{before}{beside[0]}"]
    near = [name] if name in below else like(name, below)
    return sorted(below[near[0]], key=lambda key: not key.startswith(before)) if near else []


def few(options: Sequence[str]) -> str:
    """Return options as a choice, three of them where there are many.

    >>> few(["a", "b", "c", "d"]), few(["a", "b", "c", "d", "e"])
    ('a or b or c or d', 'a, b, c or another of 5')
    """
    return " or ".join(options) if len(options) <= 4 else f"{', '.join(options[:3])} or another of {len(options)}"
