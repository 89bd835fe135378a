"""Writes a comparison for people, programs and papers."""
