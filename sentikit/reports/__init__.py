"""Reports of a comparison: one HTML page that needs no network, and plots as files."""
