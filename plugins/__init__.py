"""Bundled plugins; each one uses only what `sentikit` makes public."""
