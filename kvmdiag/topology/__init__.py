"""The topology as a networkx graph; pure."""
