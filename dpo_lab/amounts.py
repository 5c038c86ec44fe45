"""Numbers with their units, as people read them: bytes, weights, things that are counted."""

import re
from typing import Any

GB, MB = 1e9, 1e6
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}  # as the Hub counts


def bytes_text(count: float) -> str:
    """Return a number of bytes.

    >>> bytes_text(14_500_000_000), bytes_text(2_340_000), bytes_text(700), bytes_text(0), bytes_text(2e14)
    ('14.5 GB', '2.34 MB', '0.0007 MB', '0 MB', '200000 GB')
    """
    number, unit = (count / GB, "GB") if count >= GB else (count / MB, "MB")
    return f"{number:.0f} {unit}" if number >= 1000 else f"{number:.3g} {unit}"


def bytes_of(text: str) -> int:
    """Return the bytes of an amount.

    >>> bytes_of("100KB"), bytes_of("5GB")
    (100000, 5000000000)
    """
    return int(text[:-2]) * UNITS[text[-2:]]


def weights_text(count: int) -> str:
    """Return a number of weights.

    >>> weights_text(509_952), weights_text(7_241_732_096)
    ('0.51 M', '7.2 B')
    """
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.1f} B"


def count_of(number: int, noun: str) -> str:
    """Return a number of things.

    >>> count_of(1, "pair"), count_of(2, "pair")
    ('1 pair', '2 pairs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short(number: float, digits: int = 2) -> str:
    """Return a number as people read it in a column: no zero before the point.

    >>> short(0.957), short(-0.25), short(5.84), short(1.0)
    ('.96', '-.25', '5.84', '1.00')
    """
    return f"{number:z.{digits}f}".replace("0.", ".", 1) if abs(number) < 1 else f"{number:z.{digits}f}"


def memory_typed(value: Any) -> str:
    """Return the memory of a GPU as it was typed; ValueError for what is not a whole number with MB or GB.

    >>> memory_typed("16GB")
    '16GB'
    """
    text = str(value)
    if not re.fullmatch(r"[1-9]\d*(MB|GB)", text):
        number = re.match(r"[1-9]\d*", text)
        raise ValueError(f"the memory of a GPU is a whole number with MB or GB: memory={number[0] if number else 16}GB")
    return text
