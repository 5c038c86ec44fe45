"""`bash scripts/gpu_check.sh`: equality on the device, then speed, memory and utilisation, as one table and one JSON."""

import argparse
import gc
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dpo_lab.layouts.base import Kernel, Layout, PairBatch
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import evaluating
from dpo_lab.reference.cached import CachedScorer
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import micro_batches
from dpo_lab.training.optim import AdamW
from scripts.bench import gpu_model, gpu_peer, task
from scripts.bench.gpu_model import LONG, SHAPE, TINY, TINY_SHAPE, Lengths

KERNELS: tuple[Kernel, ...] = ("sdpa", "flex", "varlen")
LAST_START = 450.0  # seconds after which no further case begins: the whole has 540
EQUAL = {"fp32": 1e-4, "bf16": 3e-2}
"""Largest difference of a gradient, relative to its norm, that counts as equal."""
console = Console(highlight=False, width=160)


@dataclass
class Case:
    """What one measurement found."""

    name: str
    lengths: str
    quant: str
    pairs_per_second: float = 0.0
    tokens_per_second: float = 0.0
    """Prompt and response counted once per row, whatever the layout: the same unit for everyone."""
    peak_gib: float | None = None
    utilisation: float | None = None
    """Floating-point operations per second over those of a plain bf16 product in this run."""
    reference_seconds: float = 0.0
    loss: float = 0.0
    note: str = ""


class Bench:
    """Runs cases on one device and keeps what they found, so that a time limit loses nothing."""

    def __init__(self, device: torch.device, *, tiny: bool, out: Path) -> None:
        self.device, self.tiny, self.out = device, tiny, out
        self.began = time.monotonic()
        self.shape = TINY_SHAPE if tiny else SHAPE
        self.lengths: dict[str, Lengths] = {"tiny": TINY} if tiny else {"hh": task.LENGTHS, "long": LONG}
        self.record: dict[str, Any] = {"machine": machine(device), "equality": {}, "cases": []}

    def save(self) -> None:
        """Write everything so far."""
        self.out.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")

    def keep(self, case: Case) -> None:
        """Note a case."""
        self.record["cases"].append(asdict(case))
        self.save()
        said = case.note or f"{case.pairs_per_second:.1f} pairs/s, peak {case.peak_gib or 0:.1f} GiB"
        console.print(f"  {time.monotonic() - self.began:4.0f} s  {case.name} {case.lengths} {case.quant}: {said}", markup=False)

    def late(self) -> bool:
        """Return whether no further case should begin."""
        return time.monotonic() - self.began > LAST_START

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> float | None:
        """Return the peak of the device's memory in GiB since the last reset."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None

    def fresh(self) -> None:
        """Give back what the case before held."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def machine(device: torch.device) -> dict[str, str]:
    """Return what the numbers were measured with."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    packages = {each: version(each) for each in ("torch", "transformers", "peft", "bitsandbytes")}
    return {"device": name, "python": platform.python_version(), **packages}


def loss_of(policy: nn.Module, batch: PairBatch) -> Tensor:
    """Return the DPO loss against a reference of zeros, which lets gradients be compared without a second model."""
    logps = PairLogps(score(policy, batch.rows), batch.pairs)
    return -nn.functional.logsigmoid(0.01 * logps.margin).mean()


def gradients(bench: Bench, layout: Layout, store: TokenStore, *, bf16: bool) -> dict[str, Tensor]:
    """Return the gradients of every weight of a small model, in one layout."""
    model = gpu_model.mistral(TINY_SHAPE, bench.device, torch.float32)
    fit = fitted(model, layout, store)
    assert fit.layout is layout, fit.notes
    batch = layout.pairs(store, range(store.num_pairs)).to(bench.device)
    with torch.autocast(bench.device.type, torch.bfloat16, enabled=bf16):
        loss_of(model, batch).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def equality(bench: Bench) -> list[Layout]:
    """Return the layouts whose gradients are those of padded rows; each of the others is named with its gap."""
    store = gpu_model.token_store(gpu_model.pairs(TINY))
    on_gpu = bench.device.type == "cuda"
    kernels = KERNELS if on_gpu else KERNELS[:1]
    asked: list[Layout] = [kind(attention=kernel) for kind in (PrefixLayout, PackedLayout) for kernel in kernels]
    good: list[Layout] = []
    for precision, allowed in EQUAL.items():
        truth = gradients(bench, PaddedLayout(), store, bf16=precision == "bf16")
        good = asked if precision == "fp32" else good
        for layout in list(good):
            name = f"{layout.label} {layout.attention} {precision}"
            try:
                found = gradients(bench, layout, store, bf16=precision == "bf16")
                gap = max(float((found[each] - truth[each]).norm() / truth[each].norm()) for each in truth)
                said = "equal" if gap <= allowed else "NOT equal"
            except Exception as error:
                gap, said = float("inf"), f"failed: {type(error).__name__}: {error}"[:300]
            bench.record["equality"][name] = {"gap": gap if gap < float("inf") else None, "allowed": allowed, "is": said}
            console.print(f"  {name}: gap {gap:.1e}, {said}", markup=False)
            if said != "equal":
                good = [each for each in good if each is not layout]
    bench.save()
    return good


def gemm_rate(bench: Bench) -> float:
    """Return the operations per second of a square bf16 product, the median of some."""
    size = 512 if bench.tiny else 8192
    left, right = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        bench.wait()
        began = time.perf_counter()
        left @ right
        bench.wait()
        seconds.append(time.perf_counter() - began)
    return 2.0 * size**3 / statistics.median(seconds[3:])


def measure(bench: Bench, layout: Layout, lengths: str, quant: str, rate: float, budget: int) -> Case:
    """Train an adapter for one epoch to warm up and some that are timed."""
    case = Case(f"ours {layout.label} {layout.attention}", lengths, quant)
    bench.fresh()
    some = gpu_model.pairs(bench.lengths[lengths])
    store, half = gpu_model.token_store(some), torch.bfloat16
    model = gpu_model.mistral(bench.shape, bench.device, half)
    model = gpu_model.in_4_bits(model, half) if quant == "4bit" else model
    fit = fitted(model, layout, store)
    if fit.notes:
        case.note = "; ".join(fit.notes)
        return case
    plan = micro_batches(range(store.num_pairs), store, layout, budget)
    batches = [layout.pairs(store, each).to(bench.device) for each in plan]
    with torch.autocast(bench.device.type, half):
        case.reference_seconds, per_token = reference(bench, model, layout, store)
    scorer = CachedScorer(per_token, store).to(bench.device)
    policy = LoRA(rank=task.LORA_RANK, alpha=task.LORA_ALPHA).attach(model, seed=0)
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer, loss = AdamW(lr=1e-5).optimizer(trained), DPOLoss(beta=task.BETA)
    seconds = []
    for _ in range(4):
        bench.wait()
        began = time.perf_counter()
        total = torch.zeros((), device=bench.device)
        for batch in batches:
            with torch.autocast(bench.device.type, half):
                logps = PairLogps(score(policy, batch.rows), batch.pairs)
            each = loss(logps, PairLogps(scorer(batch.rows), batch.pairs)).sum() / store.num_pairs
            each.backward()
            total += each.detach()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        case.loss = float(total)
        bench.wait()
        seconds.append(time.perf_counter() - began)
    took = statistics.median(seconds[1:])
    case.pairs_per_second = store.num_pairs / took
    case.tokens_per_second = sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in some) / took
    case.peak_gib = bench.peak()
    case.utilisation = gpu_model.operations(policy, batches) / took / rate
    return case


def reference(bench: Bench, model: nn.Module, layout: Layout, store: TokenStore) -> tuple[float, Tensor]:
    """Return the seconds and the log-probabilities of scoring every response once."""
    bench.wait()
    began = time.perf_counter()
    with evaluating(model):
        scored = [
            score(model, layout.rows(store, [response]).to(bench.device)).per_token for response in range(store.num_responses)
        ]
    bench.wait()
    return time.perf_counter() - began, torch.cat(scored).float().cpu()


def table(bench: Bench) -> Table:
    """Return the cases as a table that docs/benchmarks.md takes as it is."""
    shown = Table(box=MARKDOWN)
    for heading in ("case", "lengths", "quant", "pairs/s", "tokens/s", "peak GiB", "of the GEMM rate", "reference s", "loss"):
        shown.add_column(heading)
    for each in (Case(**case) for case in bench.record["cases"]):
        memory = "-" if each.peak_gib is None else f"{each.peak_gib:.1f}"
        share = "-" if each.utilisation is None else f"{each.utilisation:.0%}"
        numbers = (f"{each.pairs_per_second:.2f}", f"{each.tokens_per_second:,.0f}", memory, share)
        rest = (f"{each.reference_seconds:.2f}", f"{each.loss:.4f}")
        shown.add_row(each.name, each.lengths, each.quant, *(("-",) * 4 if each.note else numbers), *rest)
    return shown


def main(arguments: list[str] | None = None) -> int:
    """Run everything that the time allows; return 1 if a layout's numbers are wrong."""
    parser = argparse.ArgumentParser(description="Equality, speed and memory on one GPU.")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="file for every number")
    parser.add_argument("--tiny", action="store_true", help="a dry run with a tiny model, on a CPU too")
    asked = parser.parse_args(arguments)
    if not asked.tiny and not torch.cuda.is_available():
        console.print("error: torch sees no GPU here; --tiny is a dry run on a CPU.")
        return 2
    bench = Bench(torch.device("cuda" if torch.cuda.is_available() else "cpu"), tiny=asked.tiny, out=asked.out)
    console.print("equality with padded rows, relative gradient gap", markup=False)
    layouts = equality(bench)
    rate = bench.record["gemm_tflops"] = gemm_rate(bench) * 1e-12
    console.print(f"a plain bf16 product: {rate:.1f} TFLOP/s", markup=False)
    budget = 64 if bench.tiny else 8192
    for quant in ("none", "4bit"):
        for lengths in bench.lengths:
            for layout in (PaddedLayout(), *layouts) if quant == "none" else layouts[:3]:
                if not bench.late():
                    bench.keep(measure(bench, layout, lengths, quant, rate * 1e12, budget))
    for variant in ("defaults", "tuned"):
        for lengths in bench.lengths:
            if gpu_peer.available() and not bench.late():
                bench.fresh()
                model = gpu_model.mistral(bench.shape, bench.device, torch.bfloat16)
                speed = gpu_peer.measure(model, gpu_model.pairs(bench.lengths[lengths]), variant, bench.wait)
                bench.keep(Case(f"TRL {variant}", lengths, "none", *speed[:2], bench.peak(), loss=speed[2]))
    console.print(table(bench))
    console.print(f"{bench.out}", markup=False)
    return int(any(each["is"] != "equal" for each in bench.record["equality"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
