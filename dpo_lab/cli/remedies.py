"""Settings that a rule's message proposes, tried on the command line that it answers before they are shown."""

import re
from collections.abc import Callable, Sequence

from dpo_lab.cli.arguments import plain_key
from dpo_lab.copying import SETTING

Try = Callable[[Sequence[str]], Sequence[str] | None]
"""Returns overrides, completed by what they need, if the command works with them in place of its own; else None."""

ALSO = " Also: "  # several things are wrong, and what mends one of them leaves the others

ASKED = ("model", "data", "loss")  # what a command is about: nobody leaves these out to mend something else


def tried_remedies(message: str, named: Sequence[str], tried: Try) -> str:
    """Return a message in which each remedy says what has to be left out beside it.

    A rule knows the parts that do not go together, not the command line: without the part that needed it, a setting of that
    line may have no effect, and would be refused next.

    Args:
        named: overrides of the command line.
        tried: says whether the command works with other overrides.
    """
    begins = re.search(r"\b[uU]se ", message)
    if not begins or ALSO in message:
        return message

    def complete(remedy: re.Match[str]) -> str:
        words = remedy[0].split()
        keys = {plain_key(word) for word in words}
        rest = [text for text in named if plain_key(text) not in keys]
        if any(word.partition("=")[2].isupper() for word in words) or tried([*rest, *words]) is not None:
            return remedy[0]
        for other in (text for text in rest if plain_key(text) not in ASKED):
            fewer = [*(text for text in rest if text != other), *words]
            if tried(fewer) == fewer:  # nothing else is needed then
                return f"{remedy[0]} without {other}"
        return remedy[0]

    head, tail = message[: begins.end()], message[begins.end() :]
    return head + re.sub(rf"{SETTING}(?: {SETTING})*", complete, tail)
