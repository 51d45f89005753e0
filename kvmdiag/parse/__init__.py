"""Turns what programs print into facts; pure, and suspicious of its input."""
