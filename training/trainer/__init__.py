"""The Trainer, its arguments and its checkpoints."""
