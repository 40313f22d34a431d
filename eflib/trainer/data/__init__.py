"""Samples: their order, positions, shares of the ranks, and what loads them."""
