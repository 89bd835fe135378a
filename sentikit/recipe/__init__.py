"""Recipes: YAML files that name components and settings, checked before anything runs."""
