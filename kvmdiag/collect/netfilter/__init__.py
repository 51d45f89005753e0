"""Tables of netfilter, of every family and backend."""
