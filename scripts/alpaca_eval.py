"""python scripts/alpaca_eval.py: the stage `alpaca_eval`; works without installing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dpo_lab.start import run_stage

sys.exit(run_stage("alpaca_eval", sys.argv[1:]))
