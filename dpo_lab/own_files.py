"""Files that share their content with a copy by hard links (`cp -al`), given their own content before they change in place."""

import os
import shutil
from pathlib import Path


def make_own(path: Path) -> None:
    """Let a file share its content with no other name, so that writing into it changes no copy by hard links."""
    if path.is_symlink() or not path.is_file() or path.stat().st_nlink == 1:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.copy2(path, temporary)
    temporary.replace(path)


def make_own_below(directory: Path) -> None:
    """Let every file of a directory share its content with no other name."""
    for path in sorted(directory.rglob("*")):
        make_own(path)
