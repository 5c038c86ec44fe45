"""The block of docs/benchmarks.md that `make tables` writes: what scripts/gpu_check.sh found on each machine of docs/bench/."""

import json
from pathlib import Path

from scripts.bench import gpu_report

BENCH = Path(__file__).resolve().parents[2] / "docs" / "bench"
BEGIN, END = "<!-- GPU tables: `make tables` writes them from docs/bench/*.json -->", "<!-- end of the GPU tables -->"
NONE = "No GPU has run it: docs/bench/ has no JSON."
PARTS = ("machine", "gemm_tflops", "failed", "equality", "shapes", "cases")


def with_gpu_tables(text: str, folder: Path = BENCH) -> str:
    """Return the page with the block between its marks made anew: one part per file of a folder."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"docs/benchmarks.md lacks the line {END if begin else BEGIN}: put it where the GPU tables belong.")
    parts = [part(path) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join([head + BEGIN, *(parts or [NONE]), END + tail])


def part(path: Path) -> str:
    """Return what a machine's file says, under the device's name.

    Raises:
        ValueError: if the file is not a whole record of a GPU.
    """
    advice = "Remove it, or write it again: bash scripts/gpu_check.sh"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). {advice}") from None
    if not isinstance(record, dict) or record.get("schema") != gpu_report.SCHEMA or any(name not in record for name in PARTS):
        raise ValueError(f"{path} is not a record of scripts/gpu_check.sh with schema {gpu_report.SCHEMA}. {advice}")
    if record["tiny"] or not record["machine"].get("on_gpu"):
        raise ValueError(f"{path} is of a dry run or of no GPU, which the tables do not show. {advice}")
    return f"### {record['machine']['device']}\n\n{gpu_report.page(record).strip()}"
