"""Launchers and sweepers of Hydra that are separate packages: which package brings one, and whether it is installed."""

from importlib.util import find_spec

PACKAGES = {
    "hydra/launcher": {
        "joblib": "hydra-joblib-launcher",
        "rq": "hydra-rq-launcher",
        **dict.fromkeys(("ray", "ray_aws"), "hydra-ray-launcher"),
        **dict.fromkeys(("submitit_local", "submitit_slurm"), "hydra-submitit-launcher"),
    },
    "hydra/sweeper": {
        "search": "optuna",
        "optuna": "hydra-optuna-sweeper",
        "ax": "hydra-ax-sweeper",
        "nevergrad": "hydra-nevergrad-sweeper",
    },
}


def instead_of_plugin(group: str, option: str) -> str:
    """Return what to do where a launcher or a sweeper does not exist or is not installed, nothing if it can be used.

    >>> instead_of_plugin("hydra/launcher", "basic")
    ''
    >>> instead_of_plugin("hydra/launcher", "slurm")
    'this launcher does not exist. Valid: basic, joblib, ray, ray_aws, rq, submitit_local, submitit_slurm.'
    """
    package = PACKAGES[group].get(option)
    if option == "basic" or (package and is_installed(package)):
        return ""
    if package:
        missing = "it searches with optuna, which is not" if option == "search" else "it is not"
        return f"{missing} installed. Type pip install {package} and then the same command"
    return f"this {group.removeprefix('hydra/')} does not exist. Valid: {', '.join(sorted(['basic', *PACKAGES[group]]))}."


def is_installed(package: str) -> bool:
    """Return whether the package of a launcher or a sweeper can be imported."""
    try:
        return find_spec("optuna" if package == "optuna" else f"hydra_plugins.{package.replace('-', '_')}") is not None
    except ModuleNotFoundError:  # no plugin at all
        return False
