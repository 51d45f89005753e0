"""kvmdiag: find out why a virtual machine cannot reach an address, and prove it."""

__version__ = "0.1.0"
