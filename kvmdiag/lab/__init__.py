"""Practice networks: built from namespaces, broken and mended on request."""
