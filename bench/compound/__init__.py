"""Compound faults of a practice network, and the plans against them."""
