"""The practice cluster: all that the kernel says of a probe that gets through, and of one lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.lab import manager
from kvmdiag.model.trace import Outcome, Walk
from kvmdiag.probes.fuse import fuse
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import observe
from kvmdiag.reports.probe_notes import ProbeNotes
from kvmdiag.reports.trace_json import render_trace
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk

pytestmark = pytest.mark.kernel


class Told(NamedTuple):
    """The observation, and prediction and observation in one."""

    seen: Observation
    fused: Walk


@pytest.fixture(scope="session")
def told() -> Iterator[Callable[..., Told]]:
    """A trace from node1 to the outside, in a cluster with that fault."""
    label = f"evidence{os.getpid()}"
    manager.up("cluster", label=label)

    def trace(fault: str | None) -> Told:
        if fault is not None:
            manager.break_(label, fault)
        try:
            snapshot = collect(manager.scope(label))
            asked = resolve(snapshot, "node1", "10.0.0.9")
            predicted = walk(snapshot, asked)
            seen = observe(snapshot, predicted, timeout=1)
        finally:
            if fault is not None:
                manager.mend(label)
        return Told(seen, fuse(predicted, seen))

    try:
        yield trace
    finally:
        manager.down(label)


def test_the_healthy_cluster(told: Callable[..., Told]) -> None:
    """Nothing is assumed any more, no reason is given, both translations are told."""
    found = told(None)
    assert found.seen.reached
    assert found.fused.works
    assert [trace.assumptions for trace in found.fused.traces] == [(), ()]
    assert [hop.kernel_reason for hop in found.fused.hops if hop.kernel_reason] == []
    evidence = found.seen.evidence
    assert evidence is not None
    texts = [one.rule.text for one in evidence.verdicts if one.rule.table == "nat"]
    assert any("MASQUERADE" in text for text in texts)
    assert any("SNAT --to-source 192.168.122.236" in text for text in texts)
    assert (evidence.unavailable, evidence.drops) == ((), ())


def test_json_has_rule_owner_and_reason(told: Callable[..., Told]) -> None:
    """What scripts read."""
    found = told("masquerade-missing@master")
    assert found.fused.decisive.outcome is Outcome.REJECTED
    notes = ProbeNotes(reached=False, answer=None, waited=found.seen.waited)
    dropped: dict[str, Any] = json.loads(render_trace(found.fused, notes=notes))["dropped_at"]
    assert dropped["owner"] == "libvirt"
    assert dropped["kernel_reason"] == "NETFILTER_DROP at nft_do_chain on virbr0"
    assert "LIBVIRT_FWO rule 2" in dropped["rule"]
