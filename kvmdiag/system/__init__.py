"""Entering network namespaces and running programs, bounded in time and size."""
