"""Training: plans of batches, rates, the loop, and the engines it runs on."""
