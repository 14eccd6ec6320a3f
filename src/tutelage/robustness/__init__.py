"""How students hold outside what they were trained on: other domains, benchmarks, behaviours and attacks."""
