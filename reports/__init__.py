"""One output format per file; pure rendering."""
