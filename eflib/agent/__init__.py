"""The agent: one per node; it starts, watches and reaps the workers of its node."""
