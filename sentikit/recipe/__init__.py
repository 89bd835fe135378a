"""Recipes: YAML files that name components and their settings."""
