"""Probes through real namespaces with all the facts of them, so that rules have their text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.probes.evidence.facts import Evidence
from kvmdiag.probes.fuse import fuse
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import observe
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk


class Traced(NamedTuple):
    """What was expected, what was seen, and both in one."""

    predicted: Walk
    seen: Observation
    fused: Walk

    @property
    def evidence(self) -> Evidence:
        """What the kernel said."""
        assert self.seen.evidence is not None
        return self.seen.evidence

    @property
    def reason(self) -> str | None:
        """The kernel's reason for the end."""
        return self.fused.decisive.end.kernel_reason


def facts(net: Any) -> Snapshot:
    """Of the namespaces of ``routed``; its router is the host, the others keep their names."""
    names = {member.path: name for name, member in net.members.items() if name != "r"}
    return collect(Scope(host=net["r"].path, names=names, libvirt=False))


@pytest.fixture
def tracing(routed: Any) -> Callable[..., Traced]:
    """``tracing("198.51.100.2")``: a probe from ``a``, or from another ``source``."""

    def trace(destination: str, source: str = "a", **more: Any) -> Traced:
        snapshot = facts(routed)
        expected = more.pop("expected", snapshot)
        predicted = walk(expected, resolve(expected, source, destination, **more))
        seen = observe(snapshot, predicted, timeout=1)
        return Traced(predicted, seen, fuse(predicted, seen))

    return trace


@pytest.fixture
def before() -> Callable[[Any], Snapshot]:
    """The facts as they are at that moment."""
    return facts
