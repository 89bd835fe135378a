"""Judges runs: which one to use, how sure that is, and what it costs."""
