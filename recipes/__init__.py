"""Bundled recipes, one YAML file each, and the figures that the study published for its own."""
