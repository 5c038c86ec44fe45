"""Messages from which a person copies a setting as it is typed: no full stop stands behind one."""

import re

SETTING = r"(?<![\w/.{$'\"])[+~]?[a-z_][\w.@-]*(?:/\w+)*=(?:\.\.\.|(?:[^\s=()]|\([^\s()]*\))+(?<![.,;:!?]))"
"""key=value, or a placeholder such as paths.outputs=DIR or data.path=...; a value that is only a full stop does not count."""
NEXT = re.compile(rf"({SETTING})\.( +)([A-Z][a-z]+(?=[ ,:;])|[^\sA-Z])")
LAST = re.compile(rf"({SETTING})\.(?=\s*$)", re.M)
OR = re.compile(rf"({SETTING}),(?= (?:or|and) {SETTING})")
NAMES = ("Hydra", "Lightning", "Python", "Optuna")  # what is written with a capital letter inside a sentence too


UNBROKEN = "\x1f"
"""Stands for a blank at which a line is not broken."""
PROGRAM = r"(?:python \S+\.py|dpo-lab [a-z_]+|pip install(?: -\w+)?|make(?: -\w \S+)? \w+|source)"
WORD = rf"(?:-m|--\w[\w-]*|{SETTING}|[\w.-]*/[\w./-]*[\w/])"
COMMAND = re.compile(rf"{PROGRAM}(?: {WORD})*|(?:-m )?{SETTING}(?: {SETTING})+|-m {SETTING}")


def copyable(message: str) -> str:
    """Return a message without a full stop, or the comma of an enumeration, behind a setting, where a copy would take it along.

    >>> copyable("a 4-bit base; use adapter=lora, or quant=none. Also: reference=none has nothing to do; use reference=cached.")
    'a 4-bit base; use adapter=lora or quant=none; also: reference=none has nothing to do; use reference=cached'
    >>> copyable("paths.outputs=: the path is empty. Write paths.outputs=PATH, or . for the current directory.")
    'paths.outputs=: the path is empty. Write paths.outputs=PATH, or . for the current directory.'
    >>> copyable("nothing is uploaded (push=false). Add -m to run each of them: -m seed=range(0,3).")
    'nothing is uploaded (push=false). Add -m to run each of them: -m seed=range(0,3)'
    """
    return NEXT.sub(_joined, LAST.sub(r"\1", OR.sub(r"\1", message)))


def _joined(found: re.Match[str]) -> str:
    word = found[3]
    return f"{found[1]};{found[2]}{word if word in NAMES else word.lower()}"


def unbroken(message: str) -> str:
    """Return a message in which UNBROKEN stands for the blanks of what is copied in one piece: a command, several settings.

    >>> print(unbroken("Write data=jsonl data.path=a.jsonl or type dpo-lab train loss=ipo now").replace(UNBROKEN, "_"))
    Write data=jsonl_data.path=a.jsonl or type dpo-lab_train_loss=ipo now
    """
    return COMMAND.sub(lambda found: found[0].replace(" ", UNBROKEN), message)
