"""The only place that knows model families."""

from . import register  # noqa: F401  (before any other module here, so that transformers' Auto classes know ours whichever is first)
