"""Walks a packet through a snapshot as the kernel would; pure, no I/O."""
