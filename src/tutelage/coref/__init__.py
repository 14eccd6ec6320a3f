"""Coreference: documents with clusters of mentions, the files they come in, and how they are scored. Plain Python and numpy."""
