"""The labelling job: examples through a classifier into a run or a file."""
