"""The command line: everything that knows Hydra and OmegaConf."""
