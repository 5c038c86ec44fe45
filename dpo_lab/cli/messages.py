"""What the user reads when something went wrong: Hydra's exceptions and the system's, each as one line."""

import errno
import re
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any

from dpo_lab.amounts import bytes_text
from dpo_lab.cli.arguments import CommandLine, key_of
from dpo_lab.cli.composing import composed
from dpo_lab.cli.conf import groups, listed, options
from dpo_lab.cli.keys import at
from dpo_lab.cli.proposals import in_shell
from dpo_lab.cli.rewriting import several_values, unreadable
from dpo_lab.cli.unknown import unknown_key
from dpo_lab.spelling import nearest

UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY_FULL = 1 << 20  # bytes free; torch and safetensors say "file write failed" where the system said ENOSPC


# ---------------------------------------------------------------- composition
def explain(error: Exception, line: CommandLine) -> str:
    """Return what Hydra could not do, with the valid names, the nearest one and the remedy."""
    text = str(error)
    if override := getattr(error, "override", None):
        return unreadable(override, line)
    if match := re.search(r"Ambiguous value for argument '(.+)'\n", text):
        return several_values(match[1], line)
    if match := re.search(r"Could not find '([\w./-]+)'", text):
        return unknown_option_of_group(match[1], text, line.config_dir)
    if match := re.search(r"Could not override '([\w./@-]+)'", text):
        return unknown_key(match[1], error.__cause__, line)
    if match := re.search(r"Sweep parameters '(.+)' requires --multirun", text):
        return f"{match[1]} names several values. Add -m to run each of them."
    if match := re.search(r"does not support sweep type : (\w+?)_SWEEP", text):
        kind = match[1].lower()
        key = next((key_of(text) for text in line.overrides if f"={kind}(" in text), "key")
        return f"{kind}(...) needs a sweeper that searches. List the values: {key}=1,2,3, or {key}=range(1,4)."
    if match := re.search(r"Environment variable '(\w+)' not found", text):
        name = match[1]
        return f"${{oc.env:{name}}}: the environment has no variable {name}. Set it, or write ${{oc.env:{name},DEFAULT}}"
    if match := re.search(r"Could not delete from config. '([\w.]+)' does not exist", text):
        return cannot_remove(match[1], line)
    if match := re.search(r"^Multiple values for (\w+)|^(\w+) appears more than once in the final defaults list", text):
        group = match[1] or match[2]
        typed = next((text for text in line.overrides if key_of(text) == group), f"{group}=...").lstrip("+")
        return f"+{group}: the group exists already. Write {typed} without the plus sign."
    if match := re.search(r"An item is already at '([\w.]+)'", text):
        typed = next((text for text in line.overrides if key_of(text) == match[1]), f"{match[1]}=...").lstrip("+")
        return f"+{match[1]}: the key exists already. Write {typed} without the plus sign."
    if match := re.search(r"Error merging override ([\w.]+)=", text):
        return cannot_merge(match[1], line)
    return " ".join(line.strip() for line in text.splitlines() if line.strip()).rstrip(".") + "."


def cannot_remove(key: str, line: CommandLine) -> str:
    """Return which keys could be removed where one does not exist."""
    part, _, name = key.rpartition(".")
    made = composed(line.stage, tuple(text for text in line.composed if not text.startswith("~")), line.config_dir)
    there = at(made.raw, part) if made and part else None
    valid = [str(name) for name in there if name != "_target_"] if isinstance(there, Mapping) else []
    instead = f"{nearest(name, valid)} Valid in {part}: {listed(valid)}." if valid else " --cfg job shows those that exist."
    return f"~{key}: this key does not exist, so it cannot be removed.{instead}"


def cannot_merge(key: str, line: CommandLine) -> str:
    """Return how to set what stands at a key that was given a value of another shape: parts by their names, or a list whole."""
    made = composed(line.stage, tuple(text for text in line.composed if key_of(text) != key), line.config_dir)
    there = at(made.raw, key) if made else None
    if not isinstance(there, Mapping):
        return f"{key}: only a mapping has keys below it. A list is written whole: {key.split('.')[0]}=[...]"
    names, group = [str(name) for name in there if name != "_target_"], key.split(".")[0]
    if names and group in groups() and all(isinstance(there[name], Mapping) for name in names):
        return (
            f"{key} holds parts by their names: {', '.join(names)}. "
            f"One more: '+{group}@{key}.NAME=OPTION'; one less: '~{key}.{names[0]}'"
        )
    return f"{key} holds values by their names. Write {' '.join(f'{key}.{name}=...' for name in names)}"


def is_of_hydra(error: Exception) -> bool:
    """Return whether an exception was raised by the configuration library, which checks few values itself."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return not isinstance(error, OSError) and bool(frames) and frames[-1].split(".")[0] in ("hydra", "omegaconf", "antlr4")


def cannot_compose(error: Exception, overrides: Sequence[str]) -> str:
    """Return what to say of an exception of the configuration library that none of its own messages explains."""
    said = " ".join(str(error).split()) or "no reason given"
    given = " ".join(overrides) or "this configuration"
    return f"{given} cannot be composed ({type(error).__name__}: {said}). Check that each key has a value of its kind."


def multirun_without_list(line: CommandLine) -> str:
    """Return which key could be given a list, when -m has none: one that is on the command line if possible."""
    for override in line.overrides:
        key, _, value = override.partition("=")
        if others := [option for option in options(key) if option != value] if key in groups() else []:
            return multirun_message(f"{key}={value},{others[0]}")
        if (values := values_meant(value)) and not takes_list(line, key):
            return f"{override} is one value. To run each of them: -m {in_shell([f'{key}={values}'])}"
    return multirun_message("seed=0,1,2")


def values_meant(value: str) -> str:
    """Return several values as Hydra sweeps over them, of a list in brackets or a range of whole numbers; empty for other text.

    >>> [values_meant(text) for text in ("[0,1]", "0..3", "0-3", "1e-4", "-3")]
    ['0,1', 'range(0,4)', 'range(0,4)', '', '']
    """
    if found := re.fullmatch(r"\[?(\d+)(?:\.{2,3}|-|:)(\d+)\]?", value):
        return f"range({found[1]},{int(found[2]) + 1})"
    found = re.fullmatch(r"\[([^\[\]]+,[^\[\]]+)\]", value)
    return found[1].replace(" ", "") if found else ""


def takes_list(line: CommandLine, key: str) -> bool:
    """Return whether the value of a key is a list."""
    others = tuple(text for text in line.composed if key_of(text) != key)
    found = composed(line.stage, others, line.config_dir)
    return found is not None and isinstance(at(found.raw, key), list)


def multirun_message(example: str) -> str:
    """Return the message about -m alone, with an example."""
    return f"-m runs every value of a list, but no key has a list. Leave out -m, or give a key a list, for instance {example}"


def unknown_option_of_group(name: str, text: str, config_dir: Path | None) -> str:
    """Return which options a group has; those of --config-dir included."""
    group, _, option = name.rpartition("/")
    valid = re.findall(r"^\t(\S+)$", text, re.M) or options(group, config_dir)
    return f"{group}={option}: this option does not exist.{nearest(option, valid)} Valid: {listed(valid)}."


# ---------------------------------------------------------------- the system
def system_message(error: BaseException, outputs: str) -> str | None:
    """Return what to do about an outputs directory that cannot be written or a disk that is full; else None."""
    for cause in chain(error):
        if "File too large" in str(cause) or (isinstance(cause, OSError) and cause.errno == errno.EFBIG):
            return too_large_message(outputs)
        if "No space left on device" in str(cause) or (isinstance(cause, OSError) and cause.errno in FULL):
            return full_message(outputs)
        if isinstance(cause, OSError) and cause.errno in UNWRITABLE and cause.filename and is_below(cause.filename, outputs):
            reason = (cause.strerror or type(cause).__name__).lower()
            if cause.errno in (errno.EEXIST, errno.ENOTDIR):
                reason += ": a file stands where a directory is needed"
            return f"{cause.filename} cannot be written ({reason}). Choose another place with paths.outputs=DIR."
    if "write" in str(error) and free_bytes(outputs) < NEARLY_FULL:
        return full_message(outputs)
    if re.search("writ|unexpected pos", str(error)) and file_size_limit() is not None:  # torch hides what the system said
        return too_large_message(outputs)
    return None


def file_size_limit() -> int | None:
    """Return how many bytes a file of this process may have, None if the system sets no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def too_large_message(outputs: str) -> str:
    """Return what to do when a file may not grow any further."""
    limit = file_size_limit()
    if limit is None:
        return f"the file system of {outputs} takes no files as large as this run writes. Choose another with paths.outputs=DIR."
    return (
        f"a file below {outputs} would be larger than {bytes_text(limit)}, the most that this shell lets a program write. "
        f"Raise the limit (ulimit -f unlimited) and run the same command again to continue. "
        f"Kept there: {kept_parts(outputs) or 'nothing yet'}."
    )


def full_message(outputs: str) -> str:
    """Return what to do when the disk is full."""
    return (
        f"the disk of {outputs} is full. Kept there: {kept_parts(outputs) or 'nothing yet'}; "
        "free some space and run the same command again to continue, or move with paths.outputs=DIR."
    )


def stop_message(how: str, outputs: str) -> str:
    """Return what a stopped run leaves."""
    kept = kept_parts(outputs)
    if not kept:
        saved = any(Path(outputs).glob("*/*/checkpoints/*.ckpt")) or any(Path(outputs).glob("*/*/kept/*"))
        rest = (
            "the one under way is saved; run the same command again to continue"
            if saved
            else "run the same command again to start"
        )
        return f"stopped by {how}. No part was finished yet; {rest}."
    return f"stopped by {how}. Kept below {outputs}: {kept}. Run the same command again to continue."


def closed_pipe(outputs: str) -> str:
    """Return why a program ends whose output nobody reads; `outputs` is empty if nothing was being made."""
    closed = "stdout was closed by what reads it (a pipe such as `| head`)"
    return f"{closed}; {stop_message('that', outputs)}" if outputs else f"{closed} before all was written."


def kept_parts(outputs: str) -> str:
    """Return which finished parts lie below the outputs directory, counted by kind."""
    kinds = sorted(path.parent.parent.name for path in Path(outputs).glob("*/*/manifest.json"))
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_below(path: Any, outputs: str) -> bool:
    """Return whether a path is the outputs directory, in it, or above it (a file where a directory must be)."""
    one, other = Path(str(path)).absolute(), Path(outputs).absolute()
    return one.is_relative_to(other) or other.is_relative_to(one)


def free_bytes(outputs: str) -> int:
    """Return how much the disk of the outputs directory can still take."""
    place = Path(outputs).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
