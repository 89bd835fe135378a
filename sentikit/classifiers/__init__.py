"""Classifiers: their interface, encoders, cascades, votes, and model folders."""
