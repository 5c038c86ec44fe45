"""Which data set is meant, and the messages when it cannot be loaded: what, why, which command or setting helps."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import file_digest
from dpo_lab.data.files import SUFFIXES, Rows, refuse_lfs_pointer
from dpo_lab.data.problems import DataError
from dpo_lab.hub import COMMIT, HUB_ID, LFS_POINTER, HubEntry, innermost

SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<rest>\..*)?")
TABLES = ("parquet", "json", "arrow", "cache")
"""Readers of the library that give rows of text and numbers as they were written; cache: what was read before."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A directory or Hub id, and the settings that belong to it."""

    path: str
    config: str | None = None
    """One of the card's configurations; None: the only one, or the one called default."""
    revision: str | None = None
    """Commit, tag or branch of a Hub id."""
    key: str = "data"
    """Group of the settings, for messages."""

    @property
    def is_local(self) -> bool:
        """Whether the path is a directory of this machine."""
        return Path(self.path).is_dir()

    @property
    def label(self) -> str:
        """The last part of the path."""
        return Path(os.path.abspath(self.path)).name  # not resolved: the name that the user gave

    @property
    def place(self) -> str:
        """The whole path of a directory, or the Hub id."""
        return str(Path(self.path).resolve()) if self.is_local else self.path

    @property
    def entry(self) -> HubEntry:
        """What it is on the Hub, for messages."""
        return HubEntry(self.path, self.revision, "data set", self.key)

    @property
    def asked_revision(self) -> str | None:
        """The revision to ask the Hub for: a directory has none."""
        return None if self.is_local else self.revision

    def content(self) -> dict[str, Any]:
        """Return what determines the rows: the files of a directory, whatever its place, or id and revision."""
        if not self.is_local:
            return {"path": self.path, "revision": self.revision, "config": self.config}
        root = Path(self.place)
        files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
        try:
            shown = [path for path in files if not any(name.startswith(".") for name in path.parts)]
            return {"files": {path.as_posix(): file_digest(root / path) for path in shown}, "config": self.config}
        except OSError as error:
            raise DataError(
                f"{error.filename} cannot be read ({error.strerror}). Check its permissions.", code="unreadable"
            ) from error

    def refuse_neither(self) -> None:
        """Raise DataError if the path can be neither a directory nor a Hub id."""
        if self.is_local or HUB_ID.fullmatch(self.path):
            return
        raise DataError(self.entry.no_id(), code="no_data_set")


def refuse_other_than_tables(origin: Origin, builder: Any) -> None:
    """Raise DataError if the files are of a kind whose rows could not be trusted to be what was written."""
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in TABLES:
        raise DataError(
            f"{origin.path} would be read as {reader}, and pairs are read from parquet, arrow and JSON Lines files. "
            "Convert it: datasets.load_dataset(...).to_parquet(...).",
            code="unknown_suffix",
        )


def refuse_incomplete(origin: Origin, files: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError if numbered files such as train-00000-of-00003.parquet are not all there."""
    for split, paths in files.items():
        named = [match for path in paths if (match := SHARD.fullmatch(path))]
        for stem, total in dict.fromkeys((match["stem"], int(match["total"])) for match in named):
            numbers = {int(match["number"]) for match in named if (match["stem"], int(match["total"])) == (stem, total)}
            if absent := sorted(set(range(total)) - numbers):
                raise DataError(
                    f"{origin.path} is not complete: of the {total} files of split {split}, "
                    f"number {', '.join(f'{number:05d}' for number in absent[:5])}{' ...' if len(absent) > 5 else ''} "
                    f"{'is' if len(absent) == 1 else 'are'} missing. {again(origin)}",
                    code="incomplete",
                )


def refuse_other_revision(origin: Origin, found: str) -> None:
    """Raise DataError if the library fell back to another commit of a pinned data set that is in its cache."""
    wanted = origin.asked_revision
    if wanted and COMMIT.fullmatch(wanted) and found != wanted:
        raise DataError(
            f"{origin.path} cannot be reached, and the cache holds revision {found} instead of {origin.key}.revision={wanted}. "
            f"Go online once, or take what is there: {origin.key}.revision={found}.",
            code="other_revision",
        )


@contextmanager
def explained(origin: Origin, files: Sequence[str] = ()) -> Iterator[None]:
    """Turn whatever the library raises into one message; `files` are looked at for the likely cause."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the library lets through what its readers raise: Arrow's, zip's, StopIteration, ...
        for path in files:
            refuse_faulty_file(Path(path), origin)
        raise explanation(origin, error) from error


def refuse_faulty_file(path: Path, origin: Origin) -> None:
    """Raise DataError with line or reason if a file of this machine is what cannot be read."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        refuse_lfs_pointer(path, file.read(len(LFS_POINTER)))
    if path.suffix in SUFFIXES:
        for _ in Rows(path):  # says what is wrong with it, by line, as for a file by itself
            pass
    if path.suffix != ".parquet":
        return
    from pyarrow import parquet

    try:
        parquet.ParquetFile(path)
    except Exception as error:
        raise DataError(
            f"{path} is not a whole parquet file ({innermost(error)}): it was cut off or changed. {again(origin)}",
            code="incomplete",
        ) from error


def explanation(origin: Origin, error: Exception) -> DataError:
    """Return the message for an error of the library."""
    kind, text, path, key = {base.__name__ for base in type(error).__mro__}, str(error), origin.path, origin.key
    if "Config name is missing" in text or ("BuilderConfig" in text and "not found" in text):
        listed = ", ".join(re.findall(r"'([^']+)'", text[text.index("[") :].partition("]")[0])) if "[" in text else ""
        has = f"has the configurations {listed}" if listed else "has several configurations"
        chosen = f"{key}.config={origin.config} does not exist" if origin.config else "none is chosen"
        return DataError(f"{path} {has}, and {chosen}. Choose with {key}.config=NAME.", code="config")
    if "scripts are no longer supported" in text:
        return DataError(
            f"{path} is read by its own Python script, and code that comes with data is never run. "
            "Use a copy in parquet or JSON Lines.",
            code="script",
        )
    if "gated dataset" in text:
        return DataError(origin.entry.gated(), code="gated")
    if "Revision" in text and "doesn't exist" in text:
        return DataError(origin.entry.no_revision(), code="no_revision")
    if "ConnectionError" in kind or "OfflineModeIsEnabled" in kind:
        return DataError(origin.entry.unreachable(), code="offline")
    if not origin.is_local and "DatasetNotFoundError" in kind:
        return DataError(origin.entry.absent(), code="no_data_set")
    if "EmptyDatasetError" in kind or "DataFilesNotFoundError" in kind:
        return DataError(
            f"{path} holds no data files: parquet, or .jsonl with one object per row. Correct {key}.path.", code="no_data_files"
        )
    if "SplitsVerificationError" in kind or "same data file format" in text:
        return DataError(
            f"{path} is not complete: its card lists files or rows that are not there ({innermost(error)}). {again(origin)}",
            code="incomplete",
        )
    if "Couldn't cast" in (cause := innermost(error)):
        return DataError(
            f"{path}: its files or splits have different columns or types ({cause}), and one configuration has one table. "
            "Put the others in a separate directory.",
            code="mixed_formats",
        )
    if "PermissionError" in kind or getattr(error, "errno", None) in (28, 30):  # disk full, read-only file system
        return DataError(
            f"{path} cannot be prepared ({innermost(error)}). Point HF_HOME to a directory with space that you may write to.",
            code="no_cache",
        )
    return DataError(f"{path} cannot be read ({innermost(error)}). {again(origin)}", code="unreadable")


def again(origin: Origin) -> str:
    """Return how to get the files whole."""
    if origin.is_local:
        return "Download it again (in a git clone: `git lfs pull`)."
    return origin.entry.again()
