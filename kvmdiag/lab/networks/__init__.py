"""The practice networks, one file each; a file here with a ``NETWORK`` is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from kvmdiag.lab.spec import Network


@cache
def networks() -> dict[str, Network]:
    """All practice networks by name."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    )
    found = (module.NETWORK for module in modules)
    return {network.name: network for network in found}
