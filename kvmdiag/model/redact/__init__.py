"""Snapshots that can be shown to anybody: what could tell whose they are is replaced."""
