"""Membership: generations, process groups, and the state that joiners get."""
