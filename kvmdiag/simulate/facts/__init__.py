"""What the walk asks of a snapshot: its facts indexed, its routes, addresses and connections."""
