"""One packet under way: each layer takes it and says what happens next."""
