"""The valid name that a misspelt one is most like."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

NEAR = 0.75  # share of equal letters from which a name is spelt like another


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a question that names the valid word most like this one, or nothing.

    >>> nearest("lrr", ["lr", "eps"]), nearest("DPO", ["dpo", "ipo"]), nearest("threads", ["num_heads"])
    (" Did you mean 'lr'?", " Did you mean 'dpo'?", '')
    """
    names = list(valid)
    spelt = (word, word.lower())  # names have small letters
    near = next((found for one in spelt if (found := like(one, names) or abbreviated(one, names))), [])
    return f" Did you mean {near[0]!r}?" if near else ""


def nearest_path(path: Path) -> str:
    """Return the file or directory whose spelling is most like that of a path, empty if none is.

    The first part of the path that does not exist is compared with what stands in its place; the rest has to exist below.

    >>> nearest_path(Path(__file__).parent / "speling.py").split("/")[-1], nearest_path(Path("/nowhere/at/all"))
    ('spelling.py', '')
    """
    missing = path
    while not missing.parent.is_dir():
        if missing.parent == missing:
            return ""
        missing = missing.parent
    try:
        names = {each.name: each for each in missing.parent.iterdir()}
    except OSError:
        return ""
    spelt = alike(missing.name, names) or {name.lower(): name for name in names}.get(missing.name.lower(), "")
    meant = names[spelt] / path.relative_to(missing) if spelt else missing
    return str(meant) if meant.exists() else ""


def no_file(key: str, path: Path) -> str:
    """Return that a setting names no file, and the path that is spelt like it or where relative paths start.

    >>> no_file("answers", Path(__file__).parent / "speling.py").split("Did you mean ")[0].split(": ")[1]
    'no such file. '
    """
    meant = nearest_path(path)
    place = "a directory stands there" if path.is_dir() else "no such file"
    instead = f"Did you mean '{key}={meant}'?" if meant and not path.is_dir() else f"Correct {key} (now in {Path.cwd()})."
    return f"{key}={path}: {place}. {instead}"


def alike(word: str, names: Iterable[str], *, cutoff: float = NEAR) -> str:
    """Return the name that shares most letters with a word, empty if none shares enough.

    Args:
        cutoff: how many are enough, from 0 to 1 (difflib.SequenceMatcher's ratio).

    >>> alike("beter", ["prompt", "better"]), alike("x", ["prompt"])
    ('better', '')
    """
    import difflib  # only where something went wrong

    return next(iter(difflib.get_close_matches(word, list(names), n=1, cutoff=cutoff)), "")


def like(word: str, names: Collection[str]) -> list[str]:
    """Return the name that is spelt most like a word: few letters differ, two changed places, or it holds the word; else none.

    >>> names = ["ipo", "dpo", "snorkel_mistral", "adamw"]
    >>> [like(word, names) for word in ("iop", "mistral", "adamw_torch", "simulate")]
    [['ipo'], ['snorkel_mistral'], ['adamw'], []]
    """
    if near := alike(word, names):
        return [near]
    if slips := [name for name in names if is_slip(word, name)]:
        return [alike(word, slips, cutoff=0.0)]
    pieces = {name: set(re.split(r"[\W_]+", name)) for name in names}
    own = set(re.split(r"[\W_]+", word))
    holders = [name for name, has in pieces.items() if len(word) > 2 and (word in has or (name in own and len(name) > 2))]
    return holders if len(holders) == 1 else []


def is_slip(word: str, name: str) -> bool:
    """Return whether a word of three letters and more is a name with one other letter, or with letters in another order.

    >>> is_slip("ipp", "ipo"), is_slip("iop", "ipo"), is_slip("kto", "dpo"), is_slip("r", "s")
    (True, True, False, False)
    """
    if len(word) < 3 or len(word) != len(name):
        return False
    return sum(one != other for one, other in zip(word, name, strict=True)) == 1 or sorted(word) == sorted(name)


def abbreviated(word: str, names: Sequence[str]) -> list[str]:
    """Return the one name that a word begins, or whose words begin with its letters; none if there are several.

    >>> abbreviated("4", ["4bit", "8bit"]), abbreviated("wd", ["weight_decay", "warmup"]), abbreviated("r", ["rank", "rslora"])
    (['4bit'], ['weight_decay'], [])
    """
    found = [name for name in names if word and (name.startswith(word) or "".join(part[:1] for part in name.split("_")) == word)]
    return found if len(found) == 1 else []
