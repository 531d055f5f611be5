"""The order of samples, and the batches of a training."""
