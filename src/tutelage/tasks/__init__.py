"""Data, labels and metrics: one file a task."""
