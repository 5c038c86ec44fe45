"""Paths that a message proposes: one that does not exist is named, so that nobody types a remedy in vain."""

import re
from collections.abc import Iterator
from pathlib import Path

from dpo_lab.cli.arguments import FILES
from dpo_lab.cli.remedies import PROPOSAL
from dpo_lab.copying import SETTING

BEGINS = re.compile(rf"{PROPOSAL.pattern}|: (?=(?:-m )?{SETTING})")
"""Where a proposal begins: at its verb, or behind a colon."""

WRITTEN = ("paths.", "hydra.", "push", "repo")
"""Beginnings of keys whose places are made, or stand elsewhere."""


def with_absent_places(message: str) -> str:
    """Return a message that says which paths of its proposal do not exist.

    >>> with_absent_places("policy is not a key. Write model=local model.path=/nope")
    'policy is not a key. Write model=local model.path=/nope (/nope does not exist here)'
    >>> with_absent_places("models=/nope: Input should be a list: models=[/nope]")
    'models=/nope: Input should be a list: models=[/nope] (/nope does not exist here)'
    >>> with_absent_places("Write paths.outputs=/nope"), with_absent_places("Write model=local model.path=org/name")
    ('Write paths.outputs=/nope', 'Write model=local model.path=org/name')
    """
    begins = BEGINS.search(message)
    if not begins or "does not exist" in message[begins.end() :]:
        return message
    absent = dict.fromkeys(path for path in proposed_places(message[begins.end() :]) if not Path(path).expanduser().exists())
    if not absent:
        return message
    verb = "does" if len(absent) == 1 else "do"
    return f"{message.rstrip('. ')} ({', '.join(absent)} {verb} not exist here)"


def proposed_places(text: str) -> Iterator[str]:
    """Yield the values of settings that can only be paths: from the root, from here, from home, or with the ending of a file."""
    for setting in re.findall(SETTING, text):
        key, _, value = setting.partition("=")
        if key.startswith(WRITTEN) or "$" in value or "://" in value:
            continue
        for place in value.strip("'\"[]").split(","):
            if not place.isupper() and (place.startswith(("/", "./", "../", "~/")) or place.endswith(FILES)):
                yield place
