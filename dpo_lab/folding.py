"""Lines within the terminal's width: what is too long continues below its own beginning."""

import re
import shutil
import sys
import textwrap

WIDEST, NARROWEST = 110, 60  # characters


def width() -> int:
    """Return how many characters of a line are used: the terminal's, within bounds; a file has the widest."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def room() -> int | None:
    """Return how many characters a row of a table may have: the terminal's, None where stdout is a file, which takes any."""
    return max(NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def folded(text: str, columns: int | None = None) -> str:
    """Return a text whose lines fit a terminal; the rest of a line stands below what follows its name, or its first word.

    >>> print(folded("usage: dpo-lab ls [DIR] [--older-than 30d]\\n\\n  DIR   a directory with runs\\nshort", 26))
    usage: dpo-lab ls [DIR]
           [--older-than 30d]
    <BLANKLINE>
      DIR   a directory with
            runs
    short

    Args:
        columns: characters of a line; the terminal's if left out.
    """
    columns = columns or width()
    return "".join(fold(line.rstrip("\n"), columns) + line[len(line.rstrip("\n")) :] for line in text.splitlines(keepends=True))


def fold(line: str, columns: int) -> str:
    """Return a line, folded if it is too long; short text in brackets or quotes, such as [--to DIR], and 62 % are not broken."""
    if len(line) <= columns:
        return line
    indent = " " * hanging(line, columns)
    short = (
        rf'\[[^\]]{{0,{columns // 2}}}\]|"[^"]{{0,{columns // 2}}}"|\([\d.]+ [A-Z]+\)|(?<![\w.])[\d.]+ (?:%|s|M|threads?)(?!\w)'
    )
    whole = re.sub(short, lambda found: found[0].replace(" ", "\x1f"), line)
    as_written = textwrap.TextWrapper(columns, subsequent_indent=indent, expand_tabs=False, replace_whitespace=False)
    as_written.break_long_words = as_written.break_on_hyphens = False
    lines = as_written.wrap(whole)
    return "\n".join(lines).replace("\x1f", " ")


def hanging(line: str, columns: int) -> int:
    """Return how far the rest of a line is indented: as what follows its name, or `usage:`, if that leaves room.

    >>> lines = ("usage: dpo-lab", "  DIR   a directory", "  after: an answer", "a sentence", "  a sentence")
    >>> [hanging(line, 80) for line in lines]
    [7, 8, 9, 0, 2]
    """
    found = re.match(r" *\w+: +(?=\S)| *\S+(?: \S+)*  +(?=\S)", line) or re.match(" *", line)
    at = found.end() if found else 0
    return at if at <= columns // 2 else len(line) - len(line.lstrip())
