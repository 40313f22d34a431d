"""One optimizer step: micro-batches, gradients and their sum over the ranks."""
