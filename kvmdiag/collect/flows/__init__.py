"""Tracked connections."""
