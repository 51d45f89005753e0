"""Programs with a hand in the network: what they are, hold and are told."""
