"""The changes kvmdiag knows: each can be printed, simulated, carried out and undone."""
