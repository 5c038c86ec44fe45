"""The words that the command line reads by itself, without a configuration; each imports what it needs when it is called."""

import sys
from collections.abc import Sequence

from dpo_lab.cli.completion import script
from dpo_lab.cli.session import USAGE, complain


def run_tool(name: str, words: Sequence[str]) -> int:
    """Run one of `TOOLS`; return the exit code."""
    if name == "completion":
        if words:
            return complain("completion is of bash alone and takes nothing. Write dpo-lab completion", USAGE)
        sys.stdout.write(script())
        return 0
    if name == "compare":
        from dpo_lab.cli.compare import compare

        return compare(words)
    if name == "ls":
        from dpo_lab.cli.listing import ls

        return ls(words)
    if name == "clean":
        from dpo_lab.cli.clean import clean

        return clean(words)
    from dpo_lab.cli.verify import verify

    return verify(words)
