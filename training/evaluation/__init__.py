"""Prediction and its metrics."""
