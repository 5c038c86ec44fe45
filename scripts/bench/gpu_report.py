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
    for each in cases:
        if "pairs_per_second" in each:
            memory = "-" if each.get("peak_gib") is None else f"{each['peak_gib']:.1f}"
            share = f"{each['utilisation']:.0%}" if "utilisation" in each else "-"
            seconds = f"{each['reference_seconds']:.2f}" if "reference_seconds" in each else "-"
            numbers = (f"{each['pairs_per_second']:.2f}", f"{each['tokens_per_second']:,.0f}", memory, share, seconds)
            shown.add_row(each["name"], each["lengths"], each["quant"], *numbers, f"{each['loss']:.4f}")
    text = io.StringIO()
    Console(file=text, width=170).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def choices(cases: list[Found]) -> Iterator[str]:
    """Yield which attention function won at which lengths and quantisation, and how it is set; last which to set for all."""
    won: dict[str, list[str]] = {}
    for workload in dict.fromkeys((each["lengths"], each["quant"]) for each in cases):
        here = [each for each in cases if (each["lengths"], each["quant"]) == workload and "layout" in each]
        ranked = sorted((each for each in here if "pairs_per_second" in each), key=lambda each: -float(each["pairs_per_second"]))
        if ranked:
            speeds = [f"{each['name']} {each['pairs_per_second']:.2f}" for each in ranked]
            yield f"{workload[0]}, quant={workload[1]}: {speeds[0]} pairs/s ({', '.join(speeds[1:]) or 'no other'})"
            won.setdefault(setting(ranked[0]), []).append(f"{workload[0]} {workload[1]}")
    if won:
        first = max(won, key=lambda each: len(won[each]))
        places = "; ".join(f"{each} is fastest at {', '.join(won[each])}" for each in won)
        yield f"to choose: {first} ({places})"
    else:
        yield "to choose: nothing was measured; layout.attention=sdpa stays"


def setting(case: Found) -> str:
    """Return a case's layout as it is written on the command line."""
    return "layout=padded" if case["layout"] == "padded" else f"layout={case['layout']} layout.attention={case['kernel']}"


def problems(record: Found) -> Iterator[str]:
    """Yield what was not equal, did not run or is not installed."""
    for each in record["equality"]:
        if each["is"] != "equal":
            gap = f": gap {each['gap']:.1e}, {each['allowed']:.1e} allowed" if each.get("gap") is not None else ""
            yield f"{each['layout']} {each['kernel']} {each['precision']}: {each['is']}{gap}"
    together: dict[str, list[str]] = {}
    for each in record["cases"]:
        if "failed" in each:
            together.setdefault(each["failed"], []).append(f"{each['name']} {each['lengths']} {each['quant']}")
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
    equal = sum(each["is"] == "equal" for each in record["equality"])
    parts = [
        head,
        f"Gradients equal to those of padded rows: {equal} of {len(record['equality'])} checks.",
        table(record["cases"]),
        "\n".join(f"- {each}" for each in problems(record)),
        "\n".join(choices(record["cases"])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
