"""Error messages for Hub models and data sets that cannot be loaded: what, why, which command or setting helps."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dpo_lab.spelling import nearest_path

HUB_ID = re.compile(r"[a-zA-Z0-9][\w.-]*/[a-zA-Z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
LFS_POINTER = b"version https://git-lfs"
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class HubEntry:
    """A model or data set that a setting names."""

    path: str
    """Hub id."""
    revision: str | None
    kind: Literal["model", "data set"]
    key: str
    """Group of the settings, for messages."""

    def gated(self) -> str:
        """Return what to do where the owner asks for consent."""
        page = f"https://huggingface.co/{'datasets/' if self.kind == 'data set' else ''}{self.path}"
        return (
            f"{self.path} is gated: its owner asks for consent. Accept the terms at {page}, then log in with `hf auth login` "
            "or set HF_TOKEN."
        )

    def no_revision(self) -> str:
        """Return what to do where there is no such commit, tag or branch."""
        return (
            f"{self.path} has no revision {self.revision}. Correct {self.key}.revision, or use {self.key}.revision=null for the "
            "newest."
        )

    def absent(self) -> str:
        """Return what to do where the Hub knows no such name."""
        return (
            f"{self.path} is not a directory (in {Path.cwd()}), and the Hub has no such {self.kind}, or a private one. "
            f"Correct {self.key}.path; for a private one log in with `hf auth login` or set HF_TOKEN."
        )

    def no_id(self) -> str:
        """Return what to do where the path can be neither a directory nor a Hub id."""
        meant = nearest_path(Path(self.path))
        remedy = f"Did you mean '{self.key}.path={meant}'?" if meant else f"Correct {self.key}.path."
        return f"{self.path} is neither a directory (in {Path.cwd()}) nor a Hub id, which is owner/name. {remedy}"

    def unreachable(self) -> str:
        """Return why it cannot be loaded without a connection, and the two ways to get it."""
        offline = next((name for name in OFFLINE if os.environ.get(name, "0") not in ("", "0")), "")
        why = f"{offline} forbids a connection" if offline else "the Hub does not answer"
        connect = f"without {offline}" if offline else "with a connection"
        at = f" at revision {self.revision}" if self.revision else ""
        skip = "" if offline else " HF_HUB_OFFLINE=1 skips asking the Hub."
        return (
            f"{self.path} is not a directory, the cache (HF_HOME) has no complete copy{at}, and {why}. Run once {connect}, "
            f"or bring a copy: `{self.download()}` on a machine that has one, then {self.key}.path=DIR.{skip}"
        )

    def again(self) -> str:
        """Return how to get the files whole."""
        return f"Run again with a connection, or bring a copy: `{self.download()}`, then {self.key}.path=DIR."

    def download(self) -> str:
        """Return the command that brings a copy."""
        kind = " --repo-type dataset" if self.kind == "data set" else ""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.path}{kind}{revision} --local-dir DIR"


def innermost(error: BaseException) -> str:
    """Return the cause at the bottom of a chain of errors as one line: its class and what it says."""
    while error.__cause__:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text[:200]}{' ...' if len(text) > 200 else ''}" if text else type(error).__name__
