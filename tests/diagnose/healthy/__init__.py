"""Healthy networks full of decoys, one family of them in each file."""

from .parts import Healthy


def cases() -> tuple[Healthy, ...]:
    """All of them."""
    from . import clusters, docker, filters, layer2, routing, versions

    modules = (docker, filters, layer2, routing, versions, clusters)
    return tuple(case for module in modules for case in module.CASES)
