"""Making many objects that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Run the body without the collector of cyclic garbage.

    It would look through all facts again and again while their number grows (a fifth of the
    time that reading 50,000 rules takes), and facts have no cycles.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
