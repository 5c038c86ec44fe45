#!/usr/bin/env bash
# What a GPU makes of it: equal numbers first, then speed and memory of a random Mistral-7B; no network, at most 9 minutes.
#   bash scripts/gpu_check.sh [--out gpu_check.json] [--tiny]
# Wants one CUDA GPU with 48 GB or more; TRL's lines appear where trl can be imported. --tiny: a dry run on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec timeout --signal=INT 540 "${PYTHON:-python}" -m scripts.bench.gpu_check "$@"
