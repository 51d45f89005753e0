"""Tells causes from bystanders and builds the repair plan."""
