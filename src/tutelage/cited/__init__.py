"""Cited answers as records: HAGRID's form, citations and segments, and the prompts that ask for them."""
