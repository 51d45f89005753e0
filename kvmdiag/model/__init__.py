"""Facts about a host and its guests, and what is concluded from them: frozen data, no I/O.

In every fact, ``None`` means "could not be read" (the snapshot's gaps say why)
and an empty tuple means "read, and there is nothing". The two are never mixed up.
"""
