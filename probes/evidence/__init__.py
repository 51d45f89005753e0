"""What the kernel itself says of a probe: which rule decided, why it was dropped, what was counted.

Every source is optional, is looked for once, and says so when it is not to be had. None of
them leaves anything behind, however the process ends.
"""
