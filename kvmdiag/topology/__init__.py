"""The network of a snapshot as a graph: stacks, links, cables, NAT and ways out."""
