"""Every fault of the practice cluster: the trace names the place, and rule or reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks
from kvmdiag.model.trace import Outcome, Walk
from kvmdiag.probes.fuse import disagreement, divergence, fuse
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import observe
from kvmdiag.reports.probe_notes import ProbeNotes
from kvmdiag.reports.trace_json import render_trace
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk

pytestmark = pytest.mark.kernel

FAULTS = {fault.name: fault for fault in networks()["cluster"].faults if fault.check is not None}

# Where it ends, with what outcome, by which rule, and the kernel's reason; "" where the kernel
# says nothing: the packet is never sent, or is lost beyond what we see.
ENDS = {
    "bridge-nf-forward-drop": (
        "request host/mybr0 dropped",
        "iptables-nft table ip filter chain FORWARD policy",
        "NETFILTER_DROP at nft_do_chain on vnet2",
    ),
    "ip-forward-off@master": (
        "request master/ens6 dropped", None, "IP_INADDRERRORS at ip_error on ens6"
    ),
    "ip-forward-off@host": (
        "request host/virbr0 dropped", None, "IP_INADDRERRORS at ip_error on virbr0"
    ),
    "per-iface-forwarding-off@host": (
        "request host/virbr0 dropped", None, "IP_INADDRERRORS at ip_error on virbr0"
    ),
    "per-iface-forwarding-off@master": (
        "request master/ens6 dropped", None, "IP_INADDRERRORS at ip_error on ens6"
    ),
    "masquerade-missing@host": ("reply host/eno1 dropped", None, ""),
    "masquerade-missing@master": (
        "request host/eno1 rejected",
        "iptables-nft table ip filter chain LIBVIRT_FWO rule 2",
        "NETFILTER_DROP at nft_do_chain on virbr0",
    ),
    "guest-no-default-route@node1": ("request node1/- no-route", None, ""),
    "guest-no-default-route@master": (
        "request master/ens6 no-route", None, "IP_INNOROUTES at ip_error on ens6"
    ),
    "guest-rp-filter-multihomed": (
        "reply node1/ens3 dropped", None, "IP_RPFILTER at ip_rcv_finish_core on ens3"
    ),
    "net-restart-orphan-taps": (
        "reply host/virbr0 unresolved", None, "neighbour 192.168.122.236 on virbr0 is INCOMPLETE"
    ),
    "tap-admin-down": (
        "request node1/ens6 unresolved", None, "neighbour 192.168.48.10 on ens6 is INCOMPLETE"
    ),
}  # fmt: skip


class Told(NamedTuple):
    """Prediction, observation and both in one, and what the checks say."""

    predicted: Walk
    seen: Observation
    fused: Walk
    causes: list[str]


@pytest.fixture(scope="session")
def told() -> Iterator[Callable[..., Told]]:
    """A trace from node1 to the outside, in a cluster with that fault."""
    label = f"evidence{os.getpid()}"
    manager.up("cluster", label=label)
    checks = load_checks()

    def trace(fault: str | None, source: str = "node1") -> Told:
        if fault is not None:
            manager.break_(label, fault)
        try:
            snapshot = collect(manager.scope(label))
            asked = resolve(snapshot, source, "10.0.0.9")
            predicted = walk(snapshot, asked)
            seen = observe(snapshot, predicted, timeout=1)
        finally:
            if fault is not None:
                manager.mend(label)
        report = diagnose(snapshot, checks, asked)
        causes = [finding.check for finding in report.findings if finding.role == "cause"]
        return Told(predicted, seen, fuse(predicted, seen), causes)

    try:
        yield trace
    finally:
        manager.down(label)


def test_no_fault_is_without_an_expected_end() -> None:
    """A fault that is added to the cluster has to be traced as well."""
    assert ENDS.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_place_and_rule_or_reason(name: str, told: Callable[..., Told]) -> None:
    """And the model, the kernel and the checks are of one mind."""
    source = "node1:ens3" if name == "guest-rp-filter-multihomed" else "node1"
    found = told(name, source)
    place, rule, reason = ENDS[name]
    trace = found.fused.decisive
    assert f"{trace.direction} {trace.end.place} {trace.outcome.value}" == place
    assert (trace.end.kernel_reason or "") == reason
    if rule is not None:
        assert str(trace.end.decider).startswith(rule)
        assert any(verdict.stops for verdict in found.seen.evidence.verdicts)  # type: ignore[union-attr]
    assert disagreement(found.predicted, found.fused) is None
    assert divergence(found.predicted, found.fused) is None
    assert found.causes == [FAULTS[name].check]


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
