"""The practice network: the nine links of a nested-NAT cluster, and the case that seems to work."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.lab import manager
from kvmdiag.model.trace import Stage, Walk
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import fuse, observe
from kvmdiag.reports.probe_notes import ProbeNotes
from kvmdiag.reports.trace_json import render_trace
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk

pytestmark = pytest.mark.kernel

NINE = (
    "node1/ens6 host/vnet3 host/mybr0 host/vnet2 master/ens6 "
    "master/ens3 host/vnet0 host/virbr0 host/eno1"
)


@pytest.fixture
def cluster() -> Iterator[str]:
    """A cluster of this test's own."""
    label = manager.up("cluster", label=f"probes{os.getpid()}")
    try:
        yield label
    finally:
        manager.down(label)


def traced(label: str, source: str) -> tuple[Walk, Observation]:
    """The walk to the outside, prediction and observation in one."""
    snapshot = collect(manager.scope(label))
    predicted = walk(snapshot, resolve(snapshot, source, "10.0.0.9"))
    seen = observe(snapshot, predicted, timeout=1)
    return fuse(predicted, seen), seen


def test_nine_links_and_two_translations(cluster: str) -> None:
    """Each is a hop, predicted and seen, there and back."""
    way, seen = traced(cluster, "node1")
    assert seen.reached
    links = [h for h in way.request.hops if h.stage in (Stage.INGRESS, Stage.EGRESS, Stage.BRIDGE)]
    assert [str(hop.place) for hop in links] == NINE.split()
    assert all(hop.seen and hop.predicted for hop in links)
    sources = [str(hop.packet.src) for hop in links]
    assert sources == ["192.168.48.20"] * 5 + ["192.168.122.236"] * 3 + ["10.0.0.10"]
    assert [str(place) for place in dict.fromkeys(s.place for s in seen.travelling("reply"))] == (
        NINE.split()[::-1]
    )


def test_the_reply_is_on_the_nic_and_does_not_arrive(cluster: str) -> None:
    """Strict rp_filter in node1: seen on every link, and yet not reached."""
    manager.break_(cluster, "guest-rp-filter-multihomed")
    way, seen = traced(cluster, "node1:ens3")
    assert not seen.reached
    assert seen.travelling("reply")[-1].place == seen.travelling("request")[0].place
    assert way.works is False
    notes = ProbeNotes(reached=False, answer=None, waited=seen.waited)
    told: dict[str, Any] = json.loads(render_trace(way, notes=notes))
    assert told["schema"] == "kvmdiag.trace/1"
    assert told["direction"] == "reply"
    assert told["dropped_at"]["stack"] == "node1"
    assert told["dropped_at"]["link"] == "ens3"
