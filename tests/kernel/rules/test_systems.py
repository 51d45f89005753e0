"""Whole rulesets, as the programs that hosts run write them, with the kernel as judge.

Their texts are in systems/. Each is loaded into the router and read back. Nothing in them may
end as unknown but what really cannot be told, and packets fare as the walk's hooks say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace as with_fields

from kvmdiag.model.matches import UnknownMatch
from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.model.statements import UnknownStatement

from .predicted import translated
from .sent import Sent, answer, icmp, tcp, udp

pytestmark = pytest.mark.kernel

_TEXTS = Path(__file__).parent / "systems"
_AWAITED = 0.3
"""Seconds to wait for what is not expected."""

SERVICE, STICKY, NOBODY, NODE = "10.96.0.10", "10.96.0.11", "10.96.0.12", "10.1.0.1"


@dataclass(frozen=True)
class System:
    """What its rules may leave unknown, and packets that get through or do not."""

    passes: tuple[Sent, ...]
    stops: tuple[Sent, ...] = ()
    unknown: frozenset[str] = frozenset()


SYSTEMS = {
    "docker.iptables": System((tcp(8080, dst=NODE), tcp(80)), (tcp(81), tcp(22))),
    "ufw.iptables": System((tcp(80), icmp()), (udp(),), frozenset({"limit", "recent"})),
    "kube-proxy.iptables": System(
        (tcp(80, dst=STICKY),), (tcp(80, dst=NOBODY), udp()), frozenset({"statistic", "recent"})
    ),
    "calico.iptables": System((tcp(80),), (tcp(22), tcp(80, src="10.1.0.3"), udp(4789))),
    "neutron.iptables": System((udp(dst="10.9.9.9"), icmp(), udp(src="10.1.0.3"))),
    "firewalld.nft": System((tcp(80), tcp(8443), icmp(), udp(src="10.1.0.3")), (tcp(22), udp())),
    "kube-proxy.nft": System(
        (tcp(80, dst=STICKY), udp()), (tcp(80, dst=NOBODY), tcp(9, dst=SERVICE))
    ),
    "libvirt.nft": System((tcp(80), udp(53), icmp()), (udp(src="10.7.0.1"),)),
    "kubevirt.nft": System((tcp(8080, dst=NODE), udp(5353, dst=NODE), tcp(22))),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def system(bench, request):
    """The router with the rules of one program."""
    bench.clear()
    path = _TEXTS / request.param
    sets = path.with_suffix(".ipsets")
    if sets.exists():
        bench.load("ipset", "-exist", "restore", text=sets.read_text())
    text = path.read_text()
    if "nfacct" in text:
        text = text.replace(" -m nfacct --nfacct-name ct_state_invalid_dropped_pkts", "")
    load = ("nft", "-f", "-") if path.suffix == ".nft" else ("iptables-nft-restore",)
    bench.load(*load, text=text)
    yield bench, SYSTEMS[request.param]
    bench.load("nft", "flush ruleset")


def test_system(system):
    """What it lets through arrives with the addresses foretold; the rest does not arrive."""
    bench, asked = system
    assert _unknown(bench.view()) == asked.unknown
    for sent in (*asked.passes, *asked.stops):
        said = translated(bench, sent)
        seen = bench.arrived(sent, patience=_AWAITED if said is None else 5)
        assert (seen is not None) is (sent in asked.passes), sent.packet.describe()
        assert _alike(said, seen), f"{sent.packet.describe()}: {said} is foretold, {seen} seen"
        if seen is not None and said == seen:
            src, sport, dst, dport = seen
            ends = {"src": dst, "sport": dport, "dst": src, "dport": sport}
            back = Sent(with_fields(answer(sent).packet, **ends), back=True, after=sent)
            assert translated(bench, back) == bench.arrived(back, forget=False)


def _unknown(view) -> frozenset[str]:
    """Which extensions a ruleset uses that are not evaluated."""
    return frozenset(
        part.text.split()[1]
        for table in view.stack.tables
        for chain in table.chains
        for rule in chain.rules
        for part in rule.body
        if isinstance(part, UnknownMatch | UnknownStatement)
    )


def _alike(said, seen) -> bool:
    if said is None or seen is None:
        return said is seen
    return all(mine in (its, KERNEL_CHOOSES) for mine, its in zip(said, seen, strict=True))
