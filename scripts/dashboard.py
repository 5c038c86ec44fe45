"""python scripts/dashboard.py: the stage `dashboard`; works without installing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dpo_lab.start import run_stage

sys.exit(run_stage("dashboard", sys.argv[1:]))
