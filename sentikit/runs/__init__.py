"""Runs: the folders that classifiers leave behind."""
