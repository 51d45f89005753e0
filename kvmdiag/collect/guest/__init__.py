"""Insides of guests, read through the agent: hostile input, bounded in size and time."""
