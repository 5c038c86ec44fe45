"""Cards in Markdown with YAML in front, which no text that is put into them can break or make say something else."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

LONGEST = 300
"""Characters of a text in a line or a cell."""
LONGEST_EXAMPLE = 2000
"""Characters of a text that stands by itself."""
SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def one_line(text: str, longest: int = LONGEST) -> str:
    """Return a text in one line without control characters, invisible ones and half characters, cut where it is too long.

    >>> one_line("a\\n---\\tb\\x1b[0m\\u202ec")
    'a --- b [0m c'
    """
    visible = "".join(" " if unicodedata.category(character).startswith("C") else character for character in text)
    plain = " ".join(visible.split())
    return plain if len(plain) <= longest else f"{plain[: longest - 4]} ..."


def inline(text: Any) -> str:
    """Return a text that Markdown and HTML show as it is, in a line or in a cell of a table.

    >>> inline("a | <b>*c*</b>")
    'a \\\\| &lt;b&gt;\\\\*c\\\\*&lt;/b&gt;'
    """
    escaped = SPECIAL.sub(r"\\\1", "".join(HTML.get(character, character) for character in one_line(str(text))))
    return escaped.replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")  # nothing becomes a link


def fenced(text: str) -> str:
    """Return a text as a block of code that ends where the text ends, whatever fences the text holds."""
    text = re.sub(r"\r\n?|[\u2028\u2029\x85]", "\n", text)
    text = "".join(
        character if character in "\n\t" or not unicodedata.category(character).startswith("C") else "\ufffd"
        for character in text
    )
    if len(text) > LONGEST_EXAMPLE:
        text = f"{text[:LONGEST_EXAMPLE]} ..."
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown; every name and cell is escaped."""
    head, *body = ([inline(cell) for cell in row] for row in (names, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(names), *body))


def front_matter(fields: Mapping[str, Any]) -> str:
    """Return the YAML that stands in front of a card; texts are cut to one line, so that none ends it."""
    return f"---\n{yaml.safe_dump(_plain(fields), sort_keys=False, allow_unicode=True, width=100_000)}---\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items() if each not in (None, [], ())}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return one_line(value) if isinstance(value, str) else value


def card(fields: Mapping[str, Any], title: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return a card: YAML, a title, and sections of a heading and Markdown each; empty ones are left out."""
    parts = [f"# {inline(title)}", *(f"## {heading}\n\n{text}" for heading, text in sections if text)]
    return front_matter(fields) + "\n" + "\n\n".join(parts) + "\n"


def licence_fields(licences: Sequence[str], known: frozenset[str]) -> dict[str, Any]:
    """Return what YAML says of licences; one that the Hub does not know is `other` with its name."""
    names = ["other" if licence not in known else licence for licence in licences]
    other = re.sub(r"[^a-z0-9.]+", "-", next((licence for licence in licences if licence not in known), "")).strip("-")
    return {"license": names[0] if len(names) == 1 else list(dict.fromkeys(names)), "license_name": other or None}


# ---------------------------------------------------------------- what runs say, as rows
def settings(part: Any) -> str:
    """Return the plain fields of a component in one line: its class and values; no digests, and of places the last name.

    >>> settings({"class": "dpo_lab.losses.dpo.DPOLoss", "beta": 0.1, "files": {"a": "b"}, "path": "/home/me/x"})
    'DPOLoss: beta 0.1, path x'
    """
    if not isinstance(part, Mapping):
        return without_place(part)
    kind = str(part.get("class", "")).rpartition(".")[2]
    values = [
        f"{name} {without_place(value)}"
        for name, value in part.items()
        if name not in ("class", "source", "sha256") and not isinstance(value, Mapping) and value not in (None, [], "")
    ]
    return f"{kind}: {', '.join(values)}" if values and kind else kind or ", ".join(values)


def without_place(value: Any) -> str:
    """Return a value as text; of a path outside its directory only the last name, for the others say who a person is."""
    if isinstance(value, list | tuple):
        return " ".join(map(without_place, value))
    text = str(value)
    return PurePath(text).name if text.startswith(("/", "~", "..")) or re.match(r"[A-Za-z]:\\", text) else text
