"""Comparison of runs: scores with intervals, significance, and costs."""
