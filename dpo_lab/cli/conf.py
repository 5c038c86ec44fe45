"""What the text of conf/ alone says (stages, groups, options, who takes what), and the nearest valid name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.cli.keys import overlaps, references, settable
from dpo_lab.conf_files import CONF

OTHER_NAMES = {  # what peft, transformers and TRL call a setting: the name that it has here
    "r": "rank",
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "use_dora": "dora",
    "use_rslora": "rslora",
    "learning_rate": "lr",
    "lr_scheduler_type": "schedule",
    "warmup_ratio": "warmup",
    "max_grad_norm": "clip",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "adam_epsilon": "eps",
    "num_return_sequences": "num_samples",
    "model_name_or_path": "path",
    "random_seed": "seed",
}
PRIVATE = ("hydra_defaults", "groups")  # files at the top of conf/ that are no stage


def stages() -> dict[str, str]:
    """Return each stage's name and what it does, as the first line of its yaml says."""
    names = (path.stem for path in CONF.glob("*.yaml") if path.stem not in PRIVATE)
    return {name: summary(CONF / f"{name}.yaml") for name in sorted(names)}


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


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a question that names the valid word most like this one, or nothing.

    >>> nearest("lrr", ["lr", "eps"]), nearest("DPO", ["dpo", "ipo"])
    (" Did you mean 'lr'?", " Did you mean 'dpo'?")
    """
    import difflib  # only where something went wrong

    names = list(valid)
    spelt = (word, word.lower())  # names have small letters
    near = next(
        (found for each in spelt if (found := difflib.get_close_matches(each, names, n=1) or abbreviated(each, names))), []
    )
    return f" Did you mean {near[0]!r}?" if near else ""


def abbreviated(word: str, names: Sequence[str]) -> list[str]:
    """Return the one name that a word begins, or whose words begin with its letters; none if there are several.

    >>> abbreviated("4", ["4bit", "8bit"]), abbreviated("wd", ["weight_decay", "warmup"]), abbreviated("r", ["rank", "rslora"])
    (['4bit'], ['weight_decay'], [])
    """
    found = [name for name in names if word and (name.startswith(word) or "".join(each[:1] for each in name.split("_")) == word)]
    return found if len(found) == 1 else []


def nearest_key(name: str, valid: Sequence[str], raw: Mapping[str, Any], part: str) -> str:
    """Return a question that names what was meant by an unknown name in a part, or nothing.

    The same name further down comes first, then a similar one beside it, then a similar one further down.

    >>> raw = {"loss": {"alpha": 0.5, "loss": {"beta": "${recipe.beta}"}}, "recipe": {"beta": 0.1}}
    >>> nearest_key("beta", ["alpha", "loss"], raw, "loss")
    " Did you mean 'loss.loss.beta' or 'recipe.beta'?"
    >>> nearest_key("r", ["alpha", "rank"], {}, "adapter")
    " Did you mean 'adapter.rank'?"
    """
    import difflib

    other, name = name, OTHER_NAMES.get(name, name)
    if other != name and name in valid:
        return f" Did you mean '{part}.{name}'?" if part else f" Did you mean {name!r}?"
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
