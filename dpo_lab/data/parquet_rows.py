"""Rows of a .parquet file, or one sentence on why there are none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_lab.data.files import Row, readable, refuse_lfs_pointer
from dpo_lab.data.problems import DataError

AT_A_TIME = 256  # rows that are turned into Python objects together


class ParquetRows:
    """(row number, {column: value}) of every row of a parquet file, from 1; a column that is null in a row is left out of it.

    A few hundred rows are held at a time.

    Raises:
        DataError: the file is not a whole parquet file, or has no rows.
    """

    def __init__(self, path: Path) -> None:
        """Look at the file's first bytes and at its description."""
        self.path = path
        with readable(path), path.open("rb") as file:
            refuse_lfs_pointer(path, file.read(200))
        self.at_most: int = self._file().metadata.num_rows
        """How many rows there are."""
        if not self.at_most:
            raise DataError(f"{path} has no rows, so there is nothing to read. Name another file.", code="empty_file")

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        number = 0
        try:
            for batch in self._file().iter_batches(batch_size=AT_A_TIME):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: value for name, value in row.items() if value is not None}
        except (OSError, ValueError) as error:  # pyarrow's errors are of these
            raise self._broken(error, f"after row {number}") from error

    def again(self) -> Iterator[Row]:
        """Yield the rows without their numbers."""
        return (row for _, row in self)

    def _file(self) -> Any:
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(self.path)
        except (OSError, ValueError) as error:
            raise self._broken(error, "whole") from error

    def _broken(self, error: Exception, where: str) -> DataError:
        what = " ".join(str(error).split())[:120].rstrip(".")
        return DataError(
            f"{self.path} cannot be read as parquet {where} ({what}): it was cut off, or is another format. Copy it again.",
            code="bad_parquet",
        )
