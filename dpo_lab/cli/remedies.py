"""Settings that a rule's message proposes, tried on the command line that it answers before they are shown."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from dpo_lab.cli.arguments import key_of
from dpo_lab.copying import SETTING

Try = Callable[[Sequence[str]], Sequence[str] | None]
"""Returns overrides, completed by what they need, if the command works with them in place of its own; else None."""

ALSO = " Also: "  # several things are wrong, and what mends one of them leaves the others

ASKED = ("model", "data", "loss")  # what a command is about: nobody leaves these out to mend something else

UNTRIED = re.compile(r"\b(?:[uU]se|[aA]dd) ")  # what the command line proposes itself (Write ...) was tried there
PROPOSAL = re.compile(r"\b(?:[uU]se|[aA]dd|[wW]rite) ")
MOST = 12
"""Combinations that are tried; each takes some tenths of a second."""


def tried_remedies(message: str, named: Sequence[str], tried: Try) -> str:
    """Return a message in which each remedy says what has to be left out beside it, and of several mistakes what mends all.

    A rule knows the parts that do not go together, not the command line: without the part that needed it, a setting of that
    line may have no effect, and would be refused next.

    Args:
        named: overrides of the command line.
        tried: says whether the command works with other overrides.
    """
    messages = once(message.split(ALSO))
    if len(messages) > 1:
        together = for_all([proposed(each) for each in messages], named, tried)
        return ALSO.join(messages) + (f" Write for all of it: {' '.join(together)}" if together else "")
    (message,) = messages
    begins = UNTRIED.search(message)
    if not begins:
        return message

    def complete(found: re.Match[str]) -> str:
        words = found[0].split()
        keys = {key_of(word) for word in words}
        rest = [text for text in named if key_of(text) not in keys]
        if any(map(is_open, words)) or tried([*rest, *words]) is not None:
            return found[0]
        for other in (text for text in rest if key_of(text) not in ASKED):
            fewer = [*(text for text in rest if text != other), *words]
            if tried(fewer) == fewer:  # nothing else is needed then
                return f"{found[0]} without {other}"
        return found[0]

    head, tail = message[: begins.end()], message[begins.end() :]
    return head + re.sub(rf"{SETTING}(?: {SETTING})*", complete, tail)


def once(messages: Sequence[str]) -> list[str]:
    """Return messages without those that say what another one says, of the same part or behind the key of another part.

    >>> once(["a=1 is odd. Use a=2", "b.c: a=1 is odd. Use a=2", "d=3"])
    ['a=1 is odd. Use a=2', 'd=3']
    """
    found = dict.fromkeys(messages)
    return [
        message
        for message in found
        if re.sub(r"^[a-z_]+(?:\.\w+)*: ", "", message) == message or message.partition(": ")[2] not in found
    ]


def proposed(message: str) -> list[list[str]]:
    """Return the settings that a message proposes, those that are typed together in one list.

    >>> proposed("judge=gold knows films; use prompts=films, or judge=same ranker=length (a control). See a=b")
    [['prompts=films'], ['judge=same', 'ranker=length'], ['a=b']]
    """
    begins = PROPOSAL.search(message)
    runs = re.findall(rf"{SETTING}(?: {SETTING})*", message[begins.end() :]) if begins else []
    return [run.split() for run in runs if not any(map(is_open, run.split()))]


def is_open(word: str) -> bool:
    """Return whether a setting has a place for a value of the user's: NAME, OWNER/NAME or ... ."""
    value = word.partition("=")[2]
    return value.isupper() or value == "..."


def for_all(remedies: Sequence[Sequence[list[str]]], named: Sequence[str], tried: Try) -> list[str]:
    """Return the fewest settings, one proposal or none for each mistake, with which a command works; [] without such."""
    for words in islice(combinations(remedies), MOST):
        keys = {key_of(word) for word in words}
        rest = [text for text in named if key_of(text) not in keys]
        if tried([*rest, *words]) == [*rest, *words]:
            return words
    return []


def combinations(remedies: Sequence[Sequence[list[str]]]) -> Iterator[list[str]]:
    """Yield what can be typed for several mistakes: one proposal or none for each, fewer settings first, no key twice.

    >>> list(combinations([[["a=1"], ["b=2"]], [["a=1"], ["c=3"]]]))
    [['a=1'], ['c=3'], ['b=2'], ['a=1', 'c=3'], ['b=2', 'a=1'], ['b=2', 'c=3']]
    """
    found: dict[tuple[str, ...], None] = {}
    for chosen in product(*([[], *remedy] for remedy in remedies)):
        words = tuple(dict.fromkeys(word for words in chosen for word in words))
        if words and len({key_of(word) for word in words}) == len(words):
            found[words] = None
    yield from map(list, sorted(found, key=len))


def completed(words: Sequence[str], others: Sequence[str], refused: Callable[[Sequence[str]], str | None]) -> list[str]:
    """Return words with what a rule asks for beside them, so that the command works; the words alone if nothing makes it work.

    Args:
        others: the other overrides of the command line.
        refused: says why a command does not work, empty if it does; None if it cannot be composed.
    """
    keys = {key_of(word) for word in words}
    rest = [text for text in others if key_of(text) not in keys]
    if not (why := refused([*rest, *words])):
        return list(words)

    def works(overrides: Sequence[str]) -> list[str] | None:
        return list(overrides) if refused(overrides) == "" else None

    asked = [[more for more in proposed(message) if not keys & {key_of(word) for word in more}] for message in why.split(ALSO)]
    more = for_all(asked, [*rest, *words], works)
    return [*words, *more]
