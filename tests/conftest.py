"""Tests import the toys beside them."""
