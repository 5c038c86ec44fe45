"""What gpu_check.sh found, as people read it: a table, what did not run and why, and which attention function to set."""

import io
from collections.abc import Iterator
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

Found = dict[str, Any]
HEADINGS = ("case", "lengths", "quant", "pairs/s", "tokens/s", "peak GiB", "of the GEMM rate", "reference s", "loss")


def name_of(asked: Found) -> str:
    """Return how a case is called in the table."""
    return f"TRL {asked['variant']}" if "variant" in asked else f"{asked['layout']} {asked['kernel']}"


def in_short(case: Found) -> str:
    """Return what a case found as one line."""
    memory = f", peak {case['peak_gib']:.1f} GiB" if case.get("peak_gib") is not None else ""
    share = f", {case['utilisation']:.0%} of the GEMM rate" if "utilisation" in case else ""
    return f"{case['pairs_per_second']:.2f} pairs/s{memory}{share}"


def machine_line(machine: Found) -> str:
    """Return what the numbers were measured with."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items() if number)
    memory = f", {machine['memory_gib']:.0f} GiB" if machine["memory_gib"] else ""
    return f"{machine['device']}{memory}; Python {machine['python']}, {packages}; {machine['budget']} tokens a micro-batch"


def table(cases: list[Found]) -> str:
    """Return the cases that were measured as a table in Markdown."""
    shown = Table(box=MARKDOWN)
    for heading in HEADINGS:
        shown.add_column(heading)
    for case in cases:
        if "pairs_per_second" in case:
            memory = "-" if case.get("peak_gib") is None else f"{case['peak_gib']:.1f}"
            share = f"{case['utilisation']:.0%}" if "utilisation" in case else "-"
            seconds = f"{case['reference_seconds']:.2f}" if "reference_seconds" in case else "-"
            numbers = (f"{case['pairs_per_second']:.2f}", f"{case['tokens_per_second']:,.0f}", memory, share, seconds)
            shown.add_row(case["name"], case["lengths"], case["quant"], *numbers, f"{case['loss']:.4f}")
    text = io.StringIO()
    Console(file=text, width=170).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def choices(cases: list[Found]) -> Iterator[str]:
    """Yield which attention function won at which lengths and quantisation, and how it is set; last which to set for all."""
    won: dict[str, list[str]] = {}
    for workload in dict.fromkeys((case["lengths"], case["quant"]) for case in cases):
        here = [case for case in cases if (case["lengths"], case["quant"]) == workload and "layout" in case]
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


def setting(case: Found) -> str:
    """Return a case's layout as it is written on the command line."""
    return "layout=padded" if case["layout"] == "padded" else f"layout={case['layout']} layout.attention={case['kernel']}"


def problems(record: Found) -> Iterator[str]:
    """Yield what was not equal, did not run or is not installed."""
    for check in record["equality"]:
        if check["is"] != "equal":
            gap = f": gap {check['gap']:.1e}, {check['allowed']:.1e} allowed" if check.get("gap") is not None else ""
            yield f"{check['layout']} {check['kernel']} {check['precision']}: {check['is']}{gap}"
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
    """Return everything as Markdown, which docs/benchmarks.md takes as it is."""
    machine = record["machine"]
    rate = f"; a plain bf16 product: {record['gemm_tflops']:.1f} TFLOP/s" if record["gemm_tflops"] else ""
    head = f"{machine_line(machine)}{rate}" if machine and "failed" not in machine else "no machine"
    equal = sum(check["is"] == "equal" for check in record["equality"])
    parts = [
        head,
        f"Gradients equal to those of padded rows: {equal} of {len(record['equality'])} checks.",
        table(record["cases"]),
        "\n".join(f"- {problem}" for problem in problems(record)),
        "\n".join(choices(record["cases"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
