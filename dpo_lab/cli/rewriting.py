"""Other ways to write an override that cannot be read, or names several values for one; each is tried before it is shown."""

import re
from collections.abc import Iterator, Sequence

from dpo_lab.cli.arguments import SEVERAL as MERGED
from dpo_lab.cli.arguments import CommandLine, is_path_problem
from dpo_lab.cli.conf import groups, options
from dpo_lab.cli.proposals import Mistake, in_shell

TYPESET = str.maketrans({"\u2212": "-", "\u2013": "-", "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u00a0": " "})
"""What a word processor or a web page makes of characters of a command line."""
CLOSING = {"(": ")", "[": "]", "{": "}"}
SEVERAL = r"(?:[^\s,=(){}\[\]]+, ?)+[^\s,=(){}\[\]]+"


def unreadable(override: str, line: CommandLine) -> str:
    """Return how to write an override that Hydra's grammar refuses."""
    key, _, value = (part.strip() for part in override.partition("="))
    mistake = Mistake.of(line, override)
    said = f"{override} cannot be read"
    if len(meant := options_in(key, value)) == 1 and not re.search(r"[\w.]=", value):
        return f"{said}: {key} takes one option, and each setting is a separate word. Write {key}={meant[0]}"
    words = next((words for words in ways(key, value) if mistake.works(words)), [])
    if not words:
        return f"{said}. Write group=option or key=value."
    if words == [in_quotes(key, value)]:
        return f'{said}: the value holds a character with a special meaning. Quote it: "{words[0]}"'
    if is_sweep(words):
        return f"{said}. To run each of them: -m {in_shell(words)}"
    return f"{said}. Write {in_shell(words)}"


def several_values(override: str, line: CommandLine) -> str:
    """Return what to do with key=a,b in a single run: a list, a number with a decimal point, a text, or several runs."""
    key, _, value = override.partition("=")
    if key in groups():
        merge = f" To merge them: {key}=[{value}]." if key in ("logger", "callbacks") else ""
        return f"{override} names several options. Add -m to run each of them.{merge}"
    mistake = Mistake.of(line, override)
    said = f"{override} names several values."
    if mistake.works([as_list := f"{key}=[{','.join(pieces(value))}]"]):
        return f"{said} One list is written {in_shell([as_list])}"
    point = f"{key}={value.replace(',', '.')}"
    is_decimal = re.fullmatch(r"-?\d+,\d+(?:[eE][+-]?\d+)?", value) and mistake.works([point])
    if is_decimal and not mistake.works([f"{key}={value.partition(',')[0]}"]):
        return f"{override} names two values. A decimal point is meant: {point}"
    text = in_quotes(key, value)
    other = f" A decimal point: {point}" if is_decimal else f' One text is written "{text}"' if mistake.works([text]) else ""
    return f"{said} Add -m to run each of them.{other}"


def ways(key: str, value: str) -> Iterator[list[str]]:
    """Yield how a setting that cannot be read may have been meant, each as the words to type.

    >>> list(ways("optim.betas", "(0.9,0.95)"))
    [['optim.betas=[0.9,0.95]'], ['optim.betas=0.9,0.95'], ["optim.betas='(0.9,0.95)'"]]
    >>> list(ways("loss", "dpo.beta=0.1"))[0], list(ways("seed", "range(0,3"))[0], list(ways("tags", "[a,"))[0]
    (['loss=dpo', 'loss.beta=0.1'], ['seed=range(0,3)'], ['tags=[a]'])
    >>> list(ways("logger", "[wandb,csv"))[0], list(ways("loss", "[dpo,ipo"))[0]
    (['logger=[wandb,csv]'], ['loss=dpo,ipo'])
    """
    typed, value = value, value.translate(TYPESET)
    glued = re.split(r"[\s,;]+(?=[a-z_][\w.]*=)", f"{key}={value}")
    if len(glued) > 1:
        yield glued
    if found := re.fullmatch(r"(\w+)[.,](\w+=\S+)", value):
        yield [f"{key}={found[1]}", f"{key}.{found[2]}"]
    if len(meant := options_in(key, value)) > 1:
        if value.startswith("[") and key in MERGED:
            yield [f"{key}=[{','.join(meant)}]"]
        yield [f"{key}={','.join(meant)}"]
    tidy = re.sub(r",{2,}", ",", value).strip(",; ")
    if (closed := tidy + missing_ends(tidy)) != typed:
        yield [f"{key}={closed}"]
    if several := re.fullmatch(rf"[{{(\[]?({SEVERAL})[)}}\]]?", tidy):
        yield [f"{key}=[{several[1]}]"]
        yield [f"{key}={several[1].replace(' ', '')}"]
    if is_path_problem(f"{key}={value}") or re.search("['\"]", value):
        yield [in_quotes(key, value)]


def options_in(key: str, value: str) -> list[str]:
    """Return the options of a group that stand in a text."""
    return [word for word in re.split(r"[^\w-]+", value) if word in options(key)] if key in groups() else []


def missing_ends(text: str) -> str:
    """Return the quote and brackets that a text opens and does not close.

    >>> missing_ends("[0.9,range(1"), missing_ends("(a)"), missing_ends('["a')
    (')]', '', '"]')
    """
    quote, waiting = "", []
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in CLOSING:
            waiting.append(CLOSING[letter])
        elif waiting and letter == waiting[-1]:
            waiting.pop()
    return quote + "".join(reversed(waiting))


def pieces(value: str) -> list[str]:
    """Return the values of a list that was written without brackets, with commas or blanks between them.

    >>> pieces("a, b"), pieces("first second")
    (['a', 'b'], ['first', 'second'])
    """
    return [piece for piece in re.split(r"[\s,]+", value) if piece]


def in_quotes(key: str, value: str) -> str:
    """Return a setting whose value is a text, whatever stands in it."""
    bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    escaped = bare.replace("'", "\\'")
    return f"{key}='{escaped}'"


def is_sweep(words: Sequence[str]) -> bool:
    """Return whether a setting has several values, for several runs."""
    return any(re.fullmatch(rf"[\w./@]+=(?:{SEVERAL}|range\(.*\)|choice\(.*\))", word) for word in words)
