"""What `--help` answers, from the text of conf/ and of the stages' classes alone. Imports nothing heavy."""

import ast
import re
import textwrap
from pathlib import Path

from dpo_lab.cli.arguments import FIRST, TOOLS
from dpo_lab.cli.conf import groups, options, recorded, stages
from dpo_lab.cli.keys import references
from dpo_lab.conf_files import CONF
from dpo_lab.folding import folded, width

OPTIONS_WIDTH, KEY_WIDTH = 45, 26  # characters
ROOT = "dpo_lab.components.Component"
"""What every class of a yaml extends; it has no fields."""
PACKAGE = Path(__file__).resolve().parents[1]
OF_RECORDED = (
    "several runs     -m loss=dpo,ipo seed=0,1,2",
    "repeat a run     rerun=outputs/train/NAME runs it again elsewhere and compares the figures",
)


def general_help() -> str:
    """Return what the program can do."""
    lines = [f"  {name:12} {what}" for name, what in stages().items()]
    text = "\n".join(
        [
            "usage: dpo-lab STAGE [-m] [group=option ...] [key=value ...]",
            "       dpo-lab verify [DIR]    dpo-lab STAGE --help    dpo-lab --version",
            "",
            "stages",
            *lines,
            "",
            "without a configuration",
            *(f"  {name:12} {what}" for name, what in TOOLS.items()),
            "",
        ]
    )
    return folded(text)


def stage_help(stage: str) -> str:
    """Return what a stage does, its keys, and the groups that it takes with their options."""
    text = (CONF / f"{stage}.yaml").read_text(encoding="utf-8")
    taken = groups_of(stage, text)
    rows = {name: help_row(name, what) for name, what in groups().items() if name in taken}
    first = [rows[name] for name in FIRST if name in rows]
    needed = "".join(f" {name}=..." for name, value, _ in keys_of(text) if value == "???")
    return "\n".join(
        [
            folded(f"usage: dpo-lab {stage}{needed} {'[-m] ' if stage in recorded() else ''}[group=option ...] [key=value ...]"),
            "",
            *textwrap.wrap(f"{stages()[stage]}.", width()),
            "",
            "keys",
            *(key_row(name, value, comment) for name, value, comment in keys_of(text)),
            "",
            *(["groups to change first", *first, ""] if first else []),
            "groups",
            *(row for name, row in rows.items() if name not in FIRST),
            "",
            *(line for row in usage_rows(stage, taken) for line in textwrap.wrap(row, width(), subsequent_indent=" " * 17)),
            "",
        ]
    )


def usage_rows(stage: str, taken: set[str]) -> list[str]:
    """Return how values, several runs and the user's own directories are written."""
    return [
        "single values    optim.lr=1e-4 seed=1" if "optim" in taken else "single values    paths.outputs=DIR",
        *(OF_RECORDED if stage in recorded() else ()),
        "look first       --cfg job shows what would run; --info defaults shows which file chose it",
        "less to read     --quiet shows no progress; the lines of a sweep's jobs go to their logs alone",
        "own options      --config-dir my_conf loss=mine, with my_conf/loss/mine.yaml",
    ]


def keys_of(text: str) -> list[tuple[str, str, str]]:
    """Return (key, default, comment) of each value that a stage's own yaml sets, in order, but what it takes from groups.

    >>> keys_of("seed: 0\\nsettings:\\n  dtype: auto # of weights\\noutputs: ${paths.outputs}")
    [('seed', '0', ''), ('settings.dtype', 'auto', 'of weights')]
    >>> keys_of("files:\\n  names:\\n    prompt: null\\n  path: ???")
    [('files.names.prompt', 'null', ''), ('files.path', '???', '')]
    """
    keys: list[tuple[str, str, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        match = re.fullmatch(r"( *)([a-z]\w*):(?: ([^#]*?))?(?: +# (.*))?", line)
        if not match or match[2] == "defaults":
            continue
        above = above[: len(match[1]) // 2]
        if not match[3]:
            above.append(match[2])
        elif "${" not in match[3]:
            keys.append((".".join([*above, match[2]]), match[3], match[4] or ""))
    return keys


def key_row(name: str, value: str, comment: str) -> str:
    """Return a key with its default and what it is, folded below itself where it is long."""
    left = f"  {name}={'...' if value == '???' else value}"
    if not comment:
        return left
    first = f"{left:{KEY_WIDTH}}" if len(left) < KEY_WIDTH else f"{left}\n{'':{KEY_WIDTH}}"
    what = f"required: {comment}" if value == "???" else comment
    return first + f"\n{'':{KEY_WIDTH}}".join(textwrap.wrap(what, width() - KEY_WIDTH))


def groups_of(stage: str, text: str) -> set[str]:
    """Return the groups that a stage takes: its class's fields, what its yaml reads by ${...}, and what those options read."""
    known = set(groups())
    target = re.search(r"^_target_: (\S+)$", text, re.M)
    used = {reference.split(".")[0] for reference in references(text)} | set(fields_of(target[1]) if target else ())
    found: set[str] = set()
    while new := (used & known) - found:
        found |= new
        for path in (path for group in new for path in (CONF / group).glob("*.yaml")):
            used |= {reference.split(".")[0] for reference in references(path.read_text(encoding="utf-8"))}
    chosen_whole = {name for name in ("experiment", "sweep", "debug") if stage == "train" or "optim" in found}
    return found | (chosen_whole & known)


def fields_of(target: str) -> list[str]:
    """Return the annotated fields of a class of this project and of those that it extends, in order, without importing it."""
    module, _, name = target.rpartition(".")
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    own = [
        statement.target.id
        for statement in found.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]
    named = [imported.get(base.id, "") for base in found.bases if isinstance(base, ast.Name)]
    bases = [base for base in named if base.startswith("dpo_lab.") and base != ROOT]
    return list(dict.fromkeys([*(name for base in reversed(bases) for name in fields_of(base)), *own]))


def help_row(name: str, what: str) -> str:
    """Return a group with its options and what it decides; options that are too many for one line stand below."""
    listed, indent = " ".join(options(name)), " " * 14
    row = f"  {name:11} {listed:{OPTIONS_WIDTH}}  {what}"
    if len(listed) <= OPTIONS_WIDTH and len(row) <= width():
        return row
    first = textwrap.fill(what, width(), initial_indent=f"  {name:11} ", subsequent_indent=indent)
    return f"{first}\n{textwrap.fill(listed, width(), initial_indent=indent, subsequent_indent=indent)}"
