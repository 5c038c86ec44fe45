"""What a run was made by: machine, code and packages."""

import os
import platform
import re
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dpo_lab import __version__

PACKAGES = (
    *("torch", "lightning", "transformers", "peft", "datasets", "hydra-core", "omegaconf", "pydantic", "bitsandbytes"),
    *("wandb", "tokenizers", "safetensors", "numpy"),
)
VARIABLES = (  # a list of what may be recorded: tokens and keys stand in variables too
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"),
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA"),  # which kernels compute
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM"),
    *("WANDB_MODE", "PYTHONHASHSEED", "WORLD_SIZE"),
)
CODE = ("dpo_lab", "conf")  # what of the checkout decides what a run does
CHECKOUT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Return machine, code and packages as plain data, without any secret; loads no package and never fails."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads(),
        "memory": memory(),
        "gpu": gpus(),
        "git": git_state(CHECKOUT),
        "packages": {"dpo-lab": __version__, **installed()},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cwd": str(Path.cwd()),
    }


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        if sys.platform == "darwin":
            return said("sysctl", "-n", "machdep.cpu.brand_string")
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except (OSError, subprocess.SubprocessError):
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def threads() -> int | None:
    """Return how many threads torch computes with; before it is loaded, how many it is told to use, or None."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() else None


def memory() -> int | None:
    """Return the machine's memory in bytes, None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no sysconf, or not these names
        return None


def gpus() -> list[str]:
    """Return the names of the GPUs that torch sees; none before it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def installed() -> dict[str, str]:
    """Return the versions of the packages that figures can depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Return the revision of a checkout and whether its code or configuration was changed since.

    None without git, and for an installed package, though the environment may stand in a repository of other code.
    """
    git = ("git", "--no-optional-locks", "-C", str(checkout))
    try:
        top, revision = said(*git, "rev-parse", "--show-toplevel", "HEAD").splitlines()
        if Path(top).resolve() != checkout.resolve():
            return None
        return {"revision": revision, "dirty": bool(said(*git, "status", "--porcelain", "--", *CODE))}
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def said(*command: str) -> str:
    """Return what a command prints; an exception if it fails or hangs. A hook's GIT_DIR would name another repository."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=variables)
    return done.stdout.strip()
