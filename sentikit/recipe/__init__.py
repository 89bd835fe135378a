"""Recipes: YAML files that name parts and settings, checked before anything runs."""
