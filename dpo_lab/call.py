"""The call that asked for a run: what stood on the command line. It is handed to the stage, which records it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the command line asked for."""

    command: str
    """The command, quoted for a shell; of a job of a multirun the command that does this job alone."""
    cwd: str
    """Where it was given; relative paths in the configuration start here."""
    overrides: tuple[str, ...]
    """group=option and key=value."""
    differences: tuple[dict[str, Any], ...]
    """{key, default, value} of each value that is not the stage's default; a default is null where there is none."""
    label: str = ""
    """Of a job of a sweep, what is swept in one word, such as beta0.1-seed0."""
    words: tuple[str, ...] = ()
    """What was asked for, for the name of the run's directory, such as seed1 and beta0.3: the most important first."""
    config: dict[str, Any]
    """The resolved configuration with each part's `_target_`: plain data from which the stage can be built again."""

    def to_record(self) -> dict[str, Any]:
        """Return the call as plain data."""
        return {
            **asdict(self),
            "overrides": list(self.overrides),
            "differences": list(self.differences),
            "words": list(self.words),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Call":
        """Return the call that a record describes; TypeError or KeyError if it is not a call's."""
        texts, plain = (record[name] for name in ("command", "cwd")), record["config"]
        if not isinstance(plain, dict) or not all(isinstance(text, str) for text in texts):
            raise TypeError("a call has a command, a directory and a configuration")
        lists = {name: tuple(record[name]) for name in ("overrides", "differences")}
        kinds = (("overrides", str), ("differences", dict))
        if not all(isinstance(record[name], list) and isinstance(item, kind) for name, kind in kinds for item in record[name]):
            raise TypeError("overrides are texts and differences are objects")
        words = record.get("words", ())
        return cls(**{**record, **lists, "words": tuple(map(str, words)) if isinstance(words, list) else ()})
