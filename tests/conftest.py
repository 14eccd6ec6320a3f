"""One thread, no network, and no stop watch: tests never ask a hub, and none fails because the machine is busy."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

import tutelage  # noqa: F401  before torch: it says how threads wait

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory):
    """A folder with a tiny random BERT and a word tokenizer, as a teacher to fine-tune."""
    from parts import save_tiny

    return save_tiny(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture
def reviews(tmp_path):
    """A JSON-lines file of sentences whose label one word tells."""
    from parts import write_reviews

    return write_reviews(tmp_path / "reviews.jsonl")
