"""Training: the LightningModules, their batches, optimizer, callbacks and loggers."""
