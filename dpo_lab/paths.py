"""Where conf/ is, what its text alone says (stages, groups, options, who takes what), and the nearest valid name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.keys import overlaps, references, settable

PRIVATE = ("hydra_defaults", "groups")  # files at the top of conf/ that are no stage


def find_conf() -> Path:
    """Return the directory of the configuration: the package's own copy in a wheel, else the checkout's.

    `pkg://` would need conf/__init__.py, and an editable install may have left an old copy in site-packages.
    """
    here = Path(__file__).resolve().parent
    return next((path for path in (here / "conf", here.parent / "conf") if (path / "groups.yaml").is_file()), here / "conf")


CONF = find_conf()


def stages() -> dict[str, str]:
    """Return each stage's name and what it does, as the first line of its yaml says."""
    names = (path.stem for path in CONF.glob("*.yaml") if path.stem not in PRIVATE)
    return {name: summary(CONF / f"{name}.yaml") for name in sorted(names)}


def groups() -> dict[str, str]:
    """Return each group's name and what it decides, in the order of groups.yaml."""
    text = (CONF / "groups.yaml").read_text(encoding="utf-8")
    return {found[1]: found[2] for found in re.finditer(r"^ +- ([a-z_]+): \S+ +# (.*)$", text, re.M)}


def options(group: str, more: Path | None = None) -> list[str]:
    """Return the options of a group, sorted; `more` is a second configuration directory (--config-dir)."""
    directories = [CONF, *([more] if more else [])]
    return sorted({path.stem for directory in directories for path in (directory / group).glob("*.yaml")})


def summary(path: Path) -> str:
    """Return the first sentence of a yaml's header, without the command after the colon."""
    lines = (line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((line.rpartition(": ")[0] or line for line in lines if not line.startswith("@")), "")


def takers(key: str) -> list[str]:
    """Return the options whose yaml reads a key, a part of it or the whole that it belongs to by ${...}.

    >>> takers("ranker.batch_size")
    ['data=on_policy', 'judge=same']
    """
    files = ((path, references(path.read_text(encoding="utf-8"))) for path in CONF.glob("*/*.yaml"))
    return sorted(f"{path.parent.name}={path.stem}" for path, used in files if overlaps(key, used))


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a question that names the valid word most like this one, or nothing.

    >>> nearest("lrr", ["lr", "eps"])
    " Did you mean 'lr'?"
    """
    import difflib  # only where something went wrong

    near = difflib.get_close_matches(word, list(valid), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def nearest_key(name: str, valid: Sequence[str], raw: Mapping[str, Any], part: str) -> str:
    """Return a question that names what was meant by an unknown name in a part, or nothing.

    The same name further down comes first, then a similar one beside it, then a similar one further down.

    >>> raw = {"loss": {"alpha": 0.5, "loss": {"beta": "${recipe.beta}"}}, "recipe": {"beta": 0.1}}
    >>> nearest_key("beta", ["alpha", "loss"], raw, "loss")
    " Did you mean 'loss.loss.beta' or 'recipe.beta'?"
    """
    import difflib

    below: dict[str, dict[str, None]] = {}
    for key in settable(raw, part):
        if key != f"{part}.{name}":  # there when a plus sign added the unknown key
            below.setdefault(key.rpartition(".")[2], {})[key] = None
    if name not in below and (beside := nearest(name, valid)):
        return beside
    near = difflib.get_close_matches(name, below, n=1)
    at_part_first = sorted(below[near[0]], key=lambda key: not key.startswith(f"{part}.")) if near else []
    return f" Did you mean {few([repr(key) for key in at_part_first])}?" if near else ""


def few(options: Sequence[str]) -> str:
    """Return options as a choice, three of them where there are many.

    >>> few(["a", "b"]), few(["a", "b", "c", "d", "e"])
    ('a or b', 'a, b, c or another of 5')
    """
    return " or ".join(options) if len(options) <= 4 else f"{', '.join(options[:3])} or another of {len(options)}"
