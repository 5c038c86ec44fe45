"""What gpu_check.sh found, as people read it: tables, what did not run and why, and which attention function to set."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

Found = dict[str, Any]
SCHEMA = 1
"""Of the JSON; another one is another number."""
HEADINGS = ("case", "lengths", "quant", "pairs/s", "tokens/s", "forwarded/s", "peak GiB", "MFU", "of GEMM", "reference s", "loss")
PLAIN = {"quant": "none", "adapter": "lora", "precision": "bf16", "checkpointing": False}
QUESTIONS: dict[str, tuple[Found, Found]] = {
    "checkpointing on, off": ({"checkpointing": True}, {}),
    "checkpointing on, off, QLoRA": ({"checkpointing": True, "quant": "4bit"}, {"quant": "4bit"}),
    "fp16, bf16": ({"precision": "fp16"}, {}),
    "QLoRA, LoRA": ({"quant": "4bit"}, {}),
    "in full, LoRA, both with checkpointing": ({"adapter": "none", "checkpointing": True}, {"checkpointing": True}),
}
"""What two cases of the same layout, attention function and lengths are compared for: the settings of both, where not PLAIN."""


def file_name(device: str) -> str:
    """Return the name of a machine's file.

    >>> file_name("NVIDIA A100-SXM4-80GB")
    'nvidia_a100_sxm4_80gb'
    """
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


def name_of(asked: Found) -> str:
    """Return how a case is called in the table.

    >>> name_of({"layout": "prefix", "kernel": "flex", **PLAIN, "checkpointing": True, "adapter": "none"})
    'prefix flex, in full, checkpointing'
    """
    if "variant" in asked:
        return f"TRL {asked['variant']}"
    more = [
        *(["in full"] if asked["adapter"] == "none" else []),
        *([asked["precision"]] if asked["precision"] != "bf16" else []),
        *(["checkpointing"] if asked["checkpointing"] else []),
    ]
    return ", ".join([f"{asked['layout']} {asked['kernel']}", *more])


def share(part: float | None) -> str:
    """Return a share in per cent, `-` where it is not known."""
    return "-" if part is None else f"{part:.0%}"


def in_short(case: Found) -> str:
    """Return what a case found as one line."""
    memory = f", peak {case['peak_gib']:.1f} GiB" if case.get("peak_gib") is not None else ""
    of_peak = f", MFU {case['mfu']:.0%}" if case.get("mfu") is not None else ""
    skipped = f", {case['skipped_steps']} steps skipped" if case.get("skipped_steps") else ""
    return f"{case['pairs_per_second']:.2f} pairs/s{memory}{of_peak}{skipped}"


def new_shape(one: Found) -> str:
    """Return what rows of new lengths cost as one line."""
    new, again = 1000 * one["new_seconds"], 1000 * one["again_seconds"]
    return f"first row {one['first_seconds']:.1f} s, a row of a new length {new:.1f} ms, of a length seen before {again:.1f} ms"


def machine_line(machine: Found) -> str:
    """Return what the numbers were measured with."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items() if number)
    memory = f", {machine['memory_gib']:.0f} GiB" if machine["memory_gib"] else ""
    return f"{machine['device']}{memory}; Python {machine['python']}, {packages}; {machine['budget']} tokens a micro-batch"


def table(cases: list[Found]) -> str:
    """Return the cases that were measured as a table in Markdown."""
    rows = []
    for case in cases:
        if "pairs_per_second" in case:
            memory = "-" if case.get("peak_gib") is None else f"{case['peak_gib']:.1f}"
            seconds = f"{case['reference_seconds']:.2f}" if "reference_seconds" in case else "-"
            forwarded = f"{case['forwarded_per_second']:,.0f}" if "forwarded_per_second" in case else "-"
            shares = (share(case.get("mfu")), share(case.get("of_gemm")))
            speeds = (f"{case['pairs_per_second']:.2f}", f"{case['tokens_per_second']:,.0f}", forwarded)
            rows.append((case["name"], case["lengths"], case["quant"], *speeds, memory, *shares, seconds, f"{case['loss']:.4f}"))
    return markdown(HEADINGS, rows)


def markdown(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown; nothing if it has no rows."""
    if not rows:
        return ""
    shown = Table(box=MARKDOWN)
    for heading in headings:
        shown.add_column(heading)
    for row in rows:
        shown.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=200).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def comparisons(cases: list[Found]) -> str:
    """Return what each setting costs or saves as a table: times the speed and the memory of the case without it."""
    rows = []
    for question, (one, other) in QUESTIONS.items():
        for case in cases:
            if "pairs_per_second" not in case or any(case.get(name) != value for name, value in (PLAIN | one).items()):
                continue
            wanted = {name: case[name] for name in ("layout", "kernel", "lengths")} | PLAIN | other
            found = [each for each in cases if "pairs_per_second" in each and all(each.get(k) == v for k, v in wanted.items())]
            if found:
                speed = case["pairs_per_second"] / found[0]["pairs_per_second"]
                known = case.get("peak_gib") is not None and found[0].get("peak_gib")
                memory = f"{case['peak_gib'] / found[0]['peak_gib']:.2f}" if known else "-"
                rows.append((question, f"{case['layout']} {case['kernel']}", case["lengths"], f"{speed:.2f}", memory))
    return markdown(("first, second", "case", "lengths", "first's pairs/s / second's", "first's peak / second's"), rows)


def choices(cases: list[Found]) -> Iterator[str]:
    """Yield which attention function won at which lengths and quantisation, and how it is set; last which to set for all."""
    won: dict[str, list[str]] = {}
    for workload in dict.fromkeys((case["lengths"], case["quant"]) for case in cases):
        here = [case for case in cases if (case["lengths"], case["quant"]) == workload and is_plain(case)]
        ranked = sorted((case for case in here if "pairs_per_second" in case), key=lambda case: -float(case["pairs_per_second"]))
        if ranked:
            speeds = [f"{case['name']} {case['pairs_per_second']:.2f}" for case in ranked]
            yield f"{workload[0]}, quant={workload[1]}: {speeds[0]} pairs/s ({', '.join(speeds[1:]) or 'no other'})"
            won.setdefault(setting(ranked[0]), []).append(f"{workload[0]} {workload[1]}")
    if won:
        first = max(won, key=lambda name: len(won[name]))
        places = "; ".join(f"{name} is fastest at {', '.join(won[name])}" for name in won)
        yield f"to choose: {first} ({places})"
    else:
        yield "to choose: nothing was measured; layout.attention=sdpa stays"


def is_plain(case: Found) -> bool:
    """Return whether a case is ours, with LoRA in bf16 without checkpointing: those that layouts are chosen by."""
    return "layout" in case and all(case[name] == value for name, value in PLAIN.items() if name != "quant")


def setting(case: Found) -> str:
    """Return a case's layout as it is written on the command line."""
    return "layout=padded" if case["layout"] == "padded" else f"layout={case['layout']} layout.attention={case['kernel']}"


def problems(record: Found) -> Iterator[str]:
    """Yield what was not equal, did not run or is not installed."""
    for check in record["equality"]:
        if check["is"] != "equal":
            gap = f": gap {check['gap']:.1e}, {check['allowed']:.1e} allowed" if check.get("gap") is not None else ""
            yield f"{check['layout']} {check['kernel']} {check['precision']}: {check['is']}{gap}"
    yield from (f"{part}: {reason}" for part, reason in record["failed"].items())
    yield from (f"new lengths, prefix {one['kernel']}: {one['failed']}" for one in record["shapes"] if "failed" in one)
    together: dict[str, list[str]] = {}
    for case in record["cases"]:
        if "failed" in case:
            together.setdefault(case["failed"], []).append(f"{case['name']} {case['lengths']} {case['quant']}")
    for reason, names in together.items():
        yield f"{', '.join(names)}: {reason}"
    machine = record["machine"]
    if machine and "failed" not in machine:
        if machine["without_bitsandbytes"]:
            yield f"4bit: not run: bitsandbytes cannot be used ({machine['without_bitsandbytes']})"
        if not machine["trl"]:
            yield "TRL: not run: it is not installed"


def page(record: Found) -> str:
    """Return everything as Markdown."""
    machine = record["machine"]
    rate = f"; a plain bf16 product: {record['gemm_tflops']:.1f} TFLOP/s" if record["gemm_tflops"] else ""
    head = f"{machine_line(machine)}{rate}" if machine and "failed" not in machine else "no machine"
    equal = sum(check["is"] == "equal" for check in record["equality"])
    parts = [
        head,
        f"Gradients equal to those of padded rows: {equal} of {len(record['equality'])} checks.",
        "\n".join(f"- prefix {one['kernel']}: {new_shape(one)}" for one in record["shapes"] if "failed" not in one),
        table(record["cases"]),
        comparisons(record["cases"]),
        "\n".join(f"- {problem}" for problem in problems(record)),
        "\n".join(choices(record["cases"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
