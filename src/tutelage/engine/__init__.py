"""One loop, and what it stands on."""
