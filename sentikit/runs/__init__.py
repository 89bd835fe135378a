"""Runs: their folders, and the reading, writing and alignment of their rows."""
