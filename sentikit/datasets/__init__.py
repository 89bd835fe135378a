"""Datasets: tables in many formats, label schemes, and splits of examples in Arrow."""
