"""Classifiers: encoder, pooling and head; saved, loaded, and labelling texts."""
