"""What to type where a file of rows does not exist: a path that is spelt like it, or how an address or a Hub id is read."""

import re
from glob import glob
from pathlib import Path

from dpo_lab.hub import HUB_ID
from dpo_lab.spelling import nearest_path

ADDRESS = re.compile(r"(https?):/{1,2}([^/]+)/(.*)")  # a Path has one slash
HUB = re.compile(r"(?:www\.)?huggingface\.co|hf\.co")


def place_of_rows(path: str, key: str) -> str:
    """Return what to type in place of a path that does not exist.

    >>> place_of_rows("owner/name", "data.path")
    'Files are read, not the Hub. Download it: hf download owner/name --repo-type dataset --local-dir name, then data.path=name'
    >>> place_of_rows("https://example.org/a/b.jsonl", "data.path")
    'Files are read, not addresses. Download it: curl -LO https://example.org/a/b.jsonl, then data.path=b.jsonl'

    Args:
        key: the setting that holds the path.
    """
    if address := ADDRESS.fullmatch(path):
        scheme, host, rest = address.groups()
        of_hub = HUB.fullmatch(host) and re.match(r"datasets/([\w.-]+/[\w.-]+)", rest)
        return from_hub(of_hub[1], key) if of_hub else from_address(f"{scheme}://{host}/{rest}", key)
    if files := sorted(glob(path)):
        also = f"; it matches {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}" if len(files) > 1 else ""
        return f"A pattern is not read{also}. A directory of files is; for one file write {key}={files[0]}"
    if meant := nearest_path(Path(path)):
        return f"Did you mean '{key}={meant}'?"
    if HUB_ID.fullmatch(path) and not Path(path).parent.exists() and Path(path).suffix not in (".json", ".jsonl"):
        return from_hub(path, key)
    return f"Correct {key} (now in {Path.cwd()})."


def from_hub(name: str, key: str) -> str:
    """Return how the data set of a Hub id is brought here."""
    place = name.rpartition("/")[2]
    command = f"hf download {name} --repo-type dataset --local-dir {place}"
    return f"Files are read, not the Hub. Download it: {command}, then {key}={place}"


def from_address(address: str, key: str) -> str:
    """Return how the file at an address is brought here."""
    return f"Files are read, not addresses. Download it: curl -LO {address}, then {key}={address.rpartition('/')[2] or 'FILE'}"
