"""Cascades and votes of recorded runs, and the recipes of ensembles."""
