"""Datasets: examples in Arrow, how they are loaded, chosen, split and described."""
