"""What training keeps: the state, its digest, and its checkpoints."""
