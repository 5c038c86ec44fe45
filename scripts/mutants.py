"""Puts small faults into the code, one at a time, and lists those that no test sees: python scripts/mutants.py --count 100."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import difflib
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from importlib import import_module

os.environ.setdefault("OMP_NUM_THREADS", "1")
from scripts.mutation.faults import OPERATORS, Fault, faults_of
from scripts.mutation.nearest import importers_of, nearest_tests
from scripts.mutation.trial import Outcome, tried

HOT = (
    *("dpo_lab/losses/*.py", "dpo_lab/layouts/*.py", "dpo_lab/scoring/*.py", "dpo_lab/reference/*.py", "dpo_lab/metrics.py"),
    *("dpo_lab/tokens/*.py", "dpo_lab/sampling/*.py", "dpo_lab/ranking/**/*.py", "dpo_lab/evaluation/*.py"),
    *("dpo_lab/training/module.py", "dpo_lab/training/steps.py", "dpo_lab/training/batches.py", "dpo_lab/training/optim.py"),
    *("dpo_lab/training/guards.py", "dpo_lab/training/checkpoint*.py", "dpo_lab/artifacts.py", "dpo_lab/continuing.py"),
    *("dpo_lab/damage.py", "dpo_lab/models/ends.py", "dpo_lab/models/given.py", "dpo_lab/models/tokenizer.py"),
    *("dpo_lab/data/**/*.py", "dpo_lab/pipeline/policy.py", "dpo_lab/pipeline/rounds.py", "dpo_lab/cli/*.py"),
)
"""Files whose mistakes would be wrong figures or a misread wish rather than errors."""
LIBRARIES = (
    *("torch", "transformers", "lightning", "peft", "pydantic", "pytest", "safetensors.torch"),
    *("hydra", "joblib", "pandas", "pyarrow.parquet", "statsmodels.api"),
)
"""Imported once, before any fault; a library that is not installed is left out."""


def drawn(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """Return some faults: a random operator, of its faults a random one, until there are enough."""
    generator = random.Random(seed)
    left = {operator: [fault for fault in faults if fault.operator == operator] for operator in OPERATORS}
    chosen: list[Fault] = []
    while len(chosen) < count and any(left.values()):
        some = left[generator.choice([operator for operator in OPERATORS if left[operator]])]
        chosen.append(some.pop(generator.randrange(len(some))))
    return chosen


def copied(root: Path, place: Path) -> Path:
    """Return a copy of the tree in a directory; shared data beside the tree stay beside the copy."""
    tree = place / "tree"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "outputs", "dist")
    shutil.copytree(root, tree, ignore=ignored)
    if (shared := root.parent / "shared").is_dir():
        (place / "shared").symlink_to(shared)
    return tree


class Trials:
    """Tries faults in a copy of the tree."""

    def __init__(self, tree: Path, seconds: float) -> None:
        self.tree, self.seconds = tree, seconds
        self.importers = importers_of(tree)
        self.fails_anyway: list[str] = []
        """Tests that fail without a fault too."""
        self._good: set[str] = set()

    def outcome(self, fault: Fault) -> Outcome:
        """Return what the tests nearest to a fault say of it; one that fails without the fault too says nothing."""
        tests = [fault.file, *nearest_tests(self.tree, fault.file, self.importers)]  # the file itself: its examples
        while True:
            with _put(fault, self.tree):
                outcome = tried(self.tree, tests, self.seconds, self.fails_anyway)
            if not outcome.failed or outcome.failed in self._good:
                return outcome
            if not tried(self.tree, [outcome.failed], self.seconds, []).failed:
                self._good.add(outcome.failed)
                return outcome
            self.fails_anyway.append(outcome.failed)


class _put:  # noqa: N801
    """Puts a fault into a tree for the block."""

    def __init__(self, fault: Fault, tree: Path) -> None:
        self.fault, self.path = fault, tree / fault.file

    def __enter__(self) -> None:
        self.source = self.path.read_bytes()
        self._write(self.fault.put_into(self.source))

    def __exit__(self, *error: object) -> None:
        self._write(self.source)

    def _write(self, source: bytes) -> None:
        self.path.write_bytes(source)
        for compiled in (self.path.parent / "__pycache__").glob(f"{self.path.stem}.*"):
            compiled.unlink()  # Python tells sources apart by size and second


def difference(fault: Fault, source: bytes) -> str:
    """Return a fault as changed lines."""
    before, after = (text.decode().splitlines() for text in (source, fault.put_into(source)))
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    return "\n".join(f"    {line}" for line in lines if line[:3] not in ("---", "+++") and not line.startswith("@@"))


def main() -> None:
    """Draw faults, try each, and list the survivors at the end."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--count", type=int, default=100)
    arguments.add_argument("--files", nargs="+", default=HOT, metavar="PATTERN", help="files of the tree, as patterns")
    arguments.add_argument("--seconds", type=float, default=20.0, help="CPU time for the tests of one fault")
    arguments.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="of the drawn faults, these again")
    given = arguments.parse_args()
    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            print(f"{name} is not installed", flush=True)
    files = sorted({str(path.relative_to(ROOT)) for pattern in given.files for path in ROOT.glob(pattern)})
    every = [fault for file in files for fault in faults_of(file, (ROOT / file).read_bytes())]
    chosen = list(enumerate(drawn(every, given.count, given.seed), 1))
    print(f"{len(chosen)} of {len(every)} faults in {len(files)} files, seed {given.seed}", flush=True)
    survivors = []
    with tempfile.TemporaryDirectory() as place:
        trials = Trials(copied(ROOT, Path(place)), given.seconds)
        for number, fault in chosen:
            if given.only and number not in given.only:
                continue
            outcome = trials.outcome(fault)
            end = f"seen by {outcome.failed}" if outcome.failed else "never ends" if outcome.endless else "SURVIVES"
            print(f"{number:4} {fault.file}:{fault.line} {fault.operator}: {end} ({outcome.passed} passed)", flush=True)
            if end == "SURVIVES":
                rest = "; the time was over before all tests had run" if outcome.spent else ""
                change = difference(fault, (trials.tree / fault.file).read_bytes())
                survivors.append(f"{number} {fault.file}:{fault.line} {fault.operator}{rest}\n{change}")
                print(change, flush=True)
    for test in trials.fails_anyway:
        print(f"left out, because it fails without a fault: {test}")
    print(f"\n{len(survivors)} survivors", *survivors, sep="\n")


if __name__ == "__main__":
    main()
