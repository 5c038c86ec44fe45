"""Hydra composes a configuration once more only to learn `hydra.mode`; left out where nothing on the command line can set it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo_lab.cli.arguments import key_of

SETTING = ("sweep", "experiment")
"""Groups whose files may set the mode, or choose a file that does (tests/cli/test_run_mode.py walks conf/)."""


def may_set_mode(overrides: Sequence[str], config_dir: Path | None) -> bool:
    """Return whether a command line may set `hydra.mode`: by a kept sweep, a setting of Hydra, or a file of the user's own.

    >>> may_set_mode(["loss=ipo", "seed=0,1"], None), may_set_mode(["sweep=losses"], None), may_set_mode(["hydra.mode=RUN"], None)
    (False, True, True)
    """
    keys = [key_of(override).split("@")[0] for override in overrides]
    return config_dir is not None or any(key in SETTING or key.split(".")[0].split("/")[0] == "hydra" for key in keys)


@contextmanager
def mode_without_composing(overrides: Sequence[str], config_dir: Path | None) -> Iterator[None]:
    """Within the block, let Hydra take the mode from its options where nothing else can set it.

    That composition was .13 of the .33 CPU-s of a command that is refused. `Hydra.get_mode` is not public: tried with
    hydra-core 1.3.8. Where it is missing, Hydra composes as it likes. A release that composes once would end this.
    """
    from hydra._internal.hydra import Hydra

    library: Any = Hydra
    before = getattr(library, "get_mode", None)
    if before is None or may_set_mode(overrides, config_dir):
        yield
        return
    library.get_mode = lambda self, config_name, overrides: None  # what Hydra itself answers where no file names a mode
    try:
        yield
    finally:
        library.get_mode = before
