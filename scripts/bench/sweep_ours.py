"""A sweep of DPO Lab on the common task in one process, as `train.py -m` runs it. Run as `python -m scripts.bench.sweep_ours`.

The pairs are stored once. Every run loads the model anew; the first one makes the reference pass, the others find it by the
digest of their weights and score four responses again to audit it, all of which is timed.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scripts.bench import task
from scripts.bench.ours import token_store, train
from scripts.bench.sweep_task import Point
from scripts.bench.task import Options, Result


def sweep(options: Options, points: Sequence[Point], budget: int) -> Iterator[Result]:
    """Yield what each run reports."""
    store = token_store(options.pairs())
    with tempfile.TemporaryDirectory() as root:
        for point in points:
            run = replace(options, lr=point.lr, beta=point.beta)
            yield train(run, "prefix", budget, "lightning", store=store, root=Path(root))


if __name__ == "__main__":
    command_line = task.parser()
    command_line.add_argument("--points", type=Point.of, nargs="+", required=True, help="LR:BETA")
    command_line.add_argument("--token-budget", type=int, default=2048)
    asked = command_line.parse_args()
    since = 0.0
    for made in sweep(task.options(asked), asked.points, asked.token_budget):
        made.emit("lightning", "peft", since=since)
        since = time.process_time()
