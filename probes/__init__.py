"""Active measurements: a probe is sent down the path and watched at every hop."""
