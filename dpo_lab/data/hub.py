"""Data sets in the layout of the Hugging Face Hub, of a directory or of the Hub itself, read through `datasets`."""

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.data.files import Row
from dpo_lab.data.hub_messages import Origin, explained, refuse_incomplete, refuse_other_revision, refuse_other_than_tables
from dpo_lab.data.problems import DataError
from dpo_lab.hub_connection import cache_alone_if_unreachable
from dpo_lab.progress import part

LOUD = ("datasets", "huggingface_hub", "filelock", "fsspec", "httpx")


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rows of one split, memory-mapped from the library's cache."""

    label: str
    """Data set, file where there is one, and split, for messages."""
    data: Any
    """The `datasets.Dataset`."""
    files: tuple[tuple[str, int], ...]
    """(name in messages, number of rows) of each file, in order."""
    origin: Origin
    paths: tuple[str, ...] = ()
    """Where the files are; none are known of what only the cache holds."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(self.data.column_names)

    @property
    def media(self) -> tuple[str, ...]:
        """Columns of pictures, sounds or films that hold any; reading one would decode it."""
        kinds = {name: repr(feature) for name, feature in self.data.features.items()}
        return tuple(
            name
            for name, kind in kinds.items()
            if re.search(r"\b(?:Image|Audio|Video|Pdf)\(", kind) and self.data.data.column(name).null_count < self.data.num_rows
        )

    def rows(self, columns: Collection[str] | None = None) -> Iterator[tuple[str, int, Row]]:
        """Yield (file, row in it from 1, row) one by one, of those of `columns` that there are; None: of all."""
        wanted = [name for name in self.columns if columns is None or name in columns]
        rows = iter(self.data.select_columns(wanted))
        with explained(self.origin, self.paths):  # text that is not UTF-8 shows only now
            for name, count in self.files:
                for number in range(1, count + 1):
                    yield name, number, next(rows)


class DataSet:
    """A data set whose rows lie in the library's cache, below HF_HOME; nothing is written beside the data."""

    def __init__(self, origin: Origin) -> None:
        """Read, and download what belongs to the Hub and is not in the cache.

        Raises:
            DataError: it cannot be loaded; with what, why, and which command or setting helps.
        """
        origin.refuse_neither()
        self.origin = origin
        with _quiet(), part(f"data {origin.label}", 1):
            import datasets  # seconds: only where a data set is read

            with nullcontext() if origin.is_local or datasets.config.HF_HUB_OFFLINE else cache_alone_if_unreachable():
                with explained(origin):
                    self._builder = datasets.load_dataset_builder(origin.place, origin.config, revision=origin.asked_revision)
                    refuse_other_than_tables(origin, self._builder)
                    refuse_incomplete(origin, self._files())
                    refuse_other_revision(origin, self._builder.hash)
                with explained(origin, [path for paths in self._files().values() for path in paths]):
                    self._builder.download_and_prepare()
        self.names: tuple[str, ...] = tuple(self._builder.info.splits)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was read from the Hub, with its commit, so that it can be asked for again."""
        return () if self.origin.is_local else (f"{self.origin.path} at revision {self._builder.hash}",)

    def split(self, name: str) -> Split:
        """Return the rows of a split; `names` lists those there are."""
        files = self._files().get(name, [])
        with _quiet(), explained(self.origin, files):
            data = self._builder.as_dataset(split=name)
        shown = [_shown(path, self.origin) for path in files]
        label = f"{shown[0] if len(files) == 1 else self.origin.label} (split {name})"
        counts = _parquet_rows(files) if len(files) > 1 else []
        of_files = tuple(zip(shown, counts, strict=True)) if counts else ((label, data.num_rows),)
        return Split(label=label, data=data, files=of_files, origin=self.origin, paths=tuple(files))

    def _files(self) -> dict[str, list[str]]:
        """Return the paths or addresses of each split's files, if they are known."""
        return {str(name): [str(path) for path in paths] for name, paths in (self._builder.config.data_files or {}).items()}


def chosen_split(data: DataSet, wanted: str | None, key: str) -> str:
    """Return the split to read; `wanted` None takes train, or the only one.

    Raises:
        DataError: there is no such split, or none is named and several could be meant.
    """
    if wanted in data.names:
        return str(wanted)
    if wanted is None and ("train" in data.names or len(data.names) == 1):
        return "train" if "train" in data.names else data.names[0]
    what = "several splits and none is called train" if wanted is None else f"no split {wanted!r}"
    raise DataError(
        f"{data.origin.path} has {what}; it has {', '.join(data.names)}. "
        f"Choose with {key}=..., for instance {key}={data.names[0]}.",
        code="no_split",
    )


def test_split_of(name: str, names: Sequence[str]) -> str | None:
    """Return the split with test in place of train in its name, if there is one.

    >>> test_split_of("train_iteration_2", ["train_iteration_2", "test_iteration_2"])
    'test_iteration_2'
    >>> test_split_of("train", ["train", "validation"])
    """
    other = name.replace("train", "test", 1)
    return other if other != name and other in names else None


def _shown(path: str, origin: Origin) -> str:
    """Return a file as messages name it: below its data set."""
    if origin.is_local:
        return f"{origin.label}/{Path(path).relative_to(origin.place).as_posix()}"
    return f"{origin.label}/{path.partition('@')[2].partition('/')[2]}"  # hf://datasets/owner/name@commit/data/...


def _parquet_rows(files: Sequence[str]) -> list[int]:
    """Return how many rows each file has, from the files' own counts; none where one is not a parquet file on this machine."""
    if not all(path.endswith(".parquet") and Path(path).is_file() for path in files):
        return []
    from pyarrow import parquet

    return [parquet.ParquetFile(path).metadata.num_rows for path in files]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's bars and log lines off the screen for the block: what matters is said in an error."""
    import datasets
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # there, but not listed in its __all__
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    loggers = [logging.getLogger(name) for name in LOUD]
    levels = [logger.level for logger in loggers]
    switches = [
        (are_progress_bars_disabled, disable_progress_bars, enable_progress_bars),
        (datasets.are_progress_bars_disabled, datasets.disable_progress_bars, datasets.enable_progress_bars),
    ]
    shown = [(disable, enable) for are_disabled, disable, enable in switches if not are_disabled()]
    for disable, _ in shown:
        disable()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for _, enable in shown:
            enable()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
