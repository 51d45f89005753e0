"""Reads the system into a snapshot, changing nothing."""
