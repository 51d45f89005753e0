"""The paths that port forwards are for: from outside to the host's own address and port."""

from __future__ import annotations

from collections.abc import Iterator

from kvmdiag.diagnose.case import addresses_of
from kvmdiag.diagnose.gateways import gateways
from kvmdiag.diagnose.rules import destination_nats, links_named
from kvmdiag.errors import UsageError
from kvmdiag.model.matches import AddressIs, PortIs, ProtocolIs
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.packet import Protocol
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import DestinationNat
from kvmdiag.simulate.endpoints import resolve

# A host may forward a thousand ports; a few show what becomes of them.
_MOST = 20
_PROTOCOLS: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp"}


def port_forwards(snapshot: Snapshot) -> Iterator[Question]:
    """A path for each port that the host forwards, as the gateway would use it."""
    host = snapshot.stack(snapshot.host)
    outside = next((g for g in gateways(host, preferred=True) if ":" not in g), None)
    rules = [p.rule for p in destination_nats(host) if p.table.family in ("ip", "inet")]
    for rule in rules[:_MOST] if outside is not None else ():
        protocol, port = _service(rule)
        address = _address(host, rule)
        if outside is None or protocol is None or port is None or address is None:
            continue
        try:
            yield resolve(snapshot, outside, address, proto=protocol, port=port)
        except UsageError:
            continue


def _service(rule: Rule) -> tuple[Protocol | None, int | None]:
    protocol: Protocol | None = None
    port = None
    for part in rule.body:
        if isinstance(part, ProtocolIs) and not part.negate and len(part.protocols) == 1:
            protocol = _PROTOCOLS.get(part.protocols[0])
        if isinstance(part, PortIs) and part.side == "dst" and not part.negate:
            port = part.ranges[0][0]
    translates = any(isinstance(part, DestinationNat) for part in rule.body)
    return (protocol, port) if translates else (None, None)


def _address(host: Stack, rule: Rule) -> str | None:
    """The address of the host that the rule is for: the one it names, or that of its link."""
    for part in rule.body:
        if isinstance(part, AddressIs) and part.side == "dst" and not part.negate:
            return part.networks[0].partition("/")[0]
    for link in links_named(rule, "in"):
        for address in addresses_of(host, link):
            if address.version == 4:
                return str(address.ip)
    return None
