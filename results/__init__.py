"""The records of measured runs, and what writes RESULTS.md from them; for maintainers, part of no wheel."""
