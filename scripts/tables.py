"""python scripts/tables.py (make tables): bring tables of README.md and docs/, and dpo_lab/public.pyi, up to date."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import re
from collections.abc import Callable

from dpo_lab.cli.conf import groups, options
from dpo_lab.conf_files import CONF
from dpo_lab.figures import table as metrics_table
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.options import loss_options
from scripts.bench.gpu_tables import with_gpu_tables

FACTS = ("paper", "formula", "at policy = reference")
"""What the head of a file of conf/loss says; without the last, the value at policy = reference is the formula itself."""


def facts_of(option: str) -> dict[str, str]:
    """Return what the head of conf/loss/OPTION.yaml says of the loss.

    >>> facts_of("ipo_sum")["formula"], facts_of("ipo_sum")["at policy = reference"]
    ('(h - 1/(2*beta))**2', '1/(4*beta**2)')
    """
    text = (CONF / "loss" / f"{option}.yaml").read_text(encoding="utf-8")
    return dict(re.findall(rf"^# ({'|'.join(FACTS)}): (.+)$", text, re.M))


def needs_of(loss: PreferenceLoss) -> list[str]:
    """Return what a loss declares to need.

    >>> needs_of(loss_options()["bco"])
    ['reference', 'whole step']
    """
    flags = {"reference": loss.needs_reference, "whole step": loss.couples_pairs, "full softmax": loss.needs_full_softmax}
    reference, *rest = [name if is_needed else "" for name, is_needed in flags.items()]
    return [name for name in (reference, *loss.needs_labels, *rest) if name]


def losses_table() -> str:
    """Return the table of the losses, one row per file of conf/loss."""
    rows = ["| option | formula | paper | class | start value | needs |", "|---|---|---|---|---|---|"]
    for name, loss in loss_options().items():
        facts, kind = facts_of(name), type(loss)
        start = f"`{facts[FACTS[2]]}`" if FACTS[2] in facts else "the formula"
        needs = ", ".join(needs_of(loss)) or "nothing"
        where = f"{kind.__module__}.{kind.__qualname__}"
        rows.append(f"| `loss={name}` | `{facts['formula']}` | {facts['paper']} | `{where}` | {start} | {needs} |")
    return "\n".join(rows)


def with_table(text: str, table: str) -> str:
    """Return a page in which a table stands in place of the one with the same header.

    >>> with_table("A\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\n\\nB", "| a | b |\\n|---|---|\\n| 3 | 4 |")
    'A\\n\\n| a | b |\\n|---|---|\\n| 3 | 4 |\\n\\nB'
    """
    begin = text.index(table.split("\n", 1)[0])
    return text[:begin] + table + text[text.index("\n\n", begin) :]


def with_options(text: str) -> str:
    """Return the README with every option of conf/ in the row of its group: in the order that stands there, new ones last."""

    def row(found: re.Match[str]) -> str:
        group, named, decides = found.groups()
        if group not in groups():
            return found[0]
        names = [name for name in re.findall(r"`(\w+)`", named) if name in options(group)]
        names += [name for name in options(group) if name not in names]
        return f"| `{group}` | {' '.join(f'`{name}`' for name in names)} | {decides} |"

    return re.sub(r"^\| `(\w+)` \| ((?:`\w+` ?)+) \| (.*) \|$", row, text, flags=re.M)


def with_classes(text: str) -> str:
    """Return the list of public classes with the class behind every option of conf/."""
    named = {
        found for file in CONF.rglob("*.yaml") for found in re.findall(r"_target_: *(dpo_lab[\w.]+)", file.read_text("utf-8"))
    }
    homes = sorted(name.rpartition(".")[::2] for name in named)
    lines = [f"from {module} import {name} as {name}" for module, name in homes]
    head, _, tail = (part.strip() for part in re.split(r"((?:^from .*\n)+)", text, maxsplit=1, flags=re.M))
    return "\n".join((head, "", *lines, "", tail, ""))


PAGES: dict[str, Callable[[str], str]] = {
    "README.md": with_options,
    "docs/method.md": lambda text: with_table(with_table(text, losses_table()), metrics_table()),
    "docs/benchmarks.md": with_gpu_tables,
    "dpo_lab/public.pyi": with_classes,
}
"""Page -> what brings its text up to date."""


if __name__ == "__main__":
    for name, renewed in PAGES.items():
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = renewed(before)
        page.write_text(after, encoding="utf-8")
        print(f"{name}: {'up to date' if after == before else 'written'}")
