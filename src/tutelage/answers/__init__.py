"""Answers that cite their sources: passages found, answers collected, judged by people, scored and exported."""
