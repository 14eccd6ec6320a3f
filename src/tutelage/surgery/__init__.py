"""Surgeries: a model in, a smaller model out, never in place."""
