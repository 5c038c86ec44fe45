#!/usr/bin/env bash
# What a GPU makes of it: equal numbers first, then speed and memory of a random Mistral-7B; no network, at most 9 minutes.
#   bash scripts/gpu_check.sh [--minutes 9] [--out FILE.json] [--tiny]
# Writes docs/bench/DEVICE.json, from which `make tables` makes the tables of docs/benchmarks.md. Needs one CUDA GPU
# with 40 GB or more; TRL's lines appear where trl can be imported. --tiny --out FILE.json: a dry run on a CPU.
# PYTHON=... names the interpreter; else the first of $VIRTUAL_ENV, .venv, python and python3 that has torch.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
unset TORCH_ALLOW_TF32_CUBLAS_OVERRIDE NVIDIA_TF32_OVERRIDE # some images set them, and float32 would lose half its digits
for python in ${PYTHON:+"$PYTHON"} ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin/python"} "$root/.venv/bin/python" python python3; do
  if "$python" -c 'from importlib.util import find_spec as has; from sys import exit; from dpo_lab.start import supported
exit(not (supported() and has("torch") and has("rich")))' 2>/dev/null; then
    exec "$python" -P -m scripts.bench.gpu_check "$@" # -P: the folder it is called from is not searched for modules
  fi
done
echo "error: no Python here is 3.11 to 3.13 and has torch and rich (tried \$PYTHON, \$VIRTUAL_ENV, .venv, python, python3); name one by PYTHON=..." >&2
exit 2
