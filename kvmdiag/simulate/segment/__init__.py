"""Layer 2 as a whole: which machines a frame can reach, and who answers for an address."""
