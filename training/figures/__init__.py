"""Figures of runs, data sets and ablations."""
