"""The check before all other imports: a supported Python that has the packages. Any Python from 3.6 on can read this file."""

import os
import sys
from signal import SIGINT

OLDEST, NEWEST = (3, 11), (3, 13)
"""The Pythons of pyproject.toml and of the Makefile."""
MODULES = (
    *("torch", "lightning", "transformers", "peft", "datasets", "hydra", "omegaconf", "pydantic", "bitsandbytes", "wandb"),
    *("tensorboard", "tokenizers", "safetensors", "rich", "numpy", "filelock", "jinja2", "matplotlib", "yaml"),
)
"""What the dependencies of pyproject.toml are imported as."""
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ANSWERED_WITHOUT = ("-h", "--help", "--version")


def check() -> None:
    """End the program with one line on standard error if this Python cannot run it."""
    wrong = problem()
    if wrong:
        sys.exit(f"error: {wrong}")


def main() -> int:
    """Run `dpo-lab STAGE ...`; return the exit code."""
    return run_stage("", sys.argv[1:])


def run_stage(stage: str, arguments: "list[str]") -> int:
    """Run a stage with what stands on the command line, once this Python is known to have what it needs; return the exit code.

    Args:
        stage: empty where the first of the arguments names it.
    """
    from dpo_lab.signals import STOPPING, StoppedEarly, raised_early

    try:
        with raised_early():
            if not supported() or not set(arguments) & set(ANSWERED_WITHOUT):
                check()
            from dpo_lab.cli import main as cli

            return cli.run_stage(stage, arguments) if stage else cli.main(arguments)
    except (KeyboardInterrupt, StoppedEarly) as stop:  # before the command line answers signals itself
        code, how = STOPPING[(stop.args or (SIGINT,))[0]]
        sys.stderr.write(f"\nstopped by {how}. Nothing had begun.\n")
        return code


def supported() -> bool:
    """Return whether this is one of the Pythons that the project supports."""
    return OLDEST <= sys.version_info[:2] <= NEWEST


def problem() -> str:
    """Return what this Python lacks and what to type, in one line; nothing if it lacks nothing."""
    from importlib.util import find_spec  # here: Ctrl-C is answered from `run_stage` on

    here = f"Python {sys.version.split()[0]} ({sys.executable})"
    pythons = [f"{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    needed = f"{', '.join(pythons[:-1])} or {pythons[-1]}"
    if not supported():
        return f"DPO Lab needs Python {needed}; this is {here}. {remedy()}"
    missing = [name for name in MODULES if getattr(find_spec(name), "origin", None) is None]  # a mere directory has none
    if not missing:
        return ""
    more = f" and {len(missing) - 3} more packages" if len(missing) > 3 else ""
    absent = f"{', '.join(missing[:3])}{more} not installed for {here}"
    return f"DPO Lab needs Python {needed} with its packages: {absent}. {remedy()}"


def remedy() -> str:
    """Return the commands that make and activate the environment, from the current directory."""
    import shlex

    beside = os.path.realpath(os.getcwd()) == os.path.realpath(CHECKOUT)
    make, venv = ("make", ".venv") if beside else (f"make -C {shlex.quote(CHECKOUT)}", os.path.join(CHECKOUT, ".venv"))
    if os.path.realpath(sys.prefix) == os.path.realpath(os.path.join(CHECKOUT, ".venv")):  # a package was removed from it
        return f"Type: {make} -B setup"
    return f"Type: {make} setup && source {shlex.quote(os.path.join(venv, 'bin', 'activate'))}"
