"""python train.py: rounds of getting pairs, DPO and evaluation; works without installing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dpo_lab.start import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("train", sys.argv[1:]))
