"""One fault per file; the module docstring is its explanation."""
