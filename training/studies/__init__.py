"""Many trainings: over seeds, over changes, and what chance explains."""
