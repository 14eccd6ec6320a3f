"""Which layers of a language model may echo which: similarity on real text, plans, and what they cost."""
