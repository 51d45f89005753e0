"""How long a check of a whole host with many guests takes."""
