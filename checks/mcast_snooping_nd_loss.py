"""A bridge keeps multicast from a guest that has not reported its groups.

Symptom: IPv6, mDNS, VRRP or corosync dies some minutes after boot, IPv4 works.
Cause: multicast snooping is on and a querier is there, and the bridge does not know the guest's
    groups, because reports are filtered or expired.
Harmless when: nobody queries: then a bridge floods all multicast, snooping or not.
Evidence: snooping and a querier on the bridge, and no entry for the solicited-node group of a
    guest's address.
Fix: ip link set BRIDGE type bridge mcast_snooping 0, or let MLD pass.
Sources: net/bridge/br_multicast.c, RFC 4541
"""

from collections.abc import Iterator
from ipaddress import ip_address

from kvmdiag.diagnose.case import addresses_of, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import inside_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES})
def mcast_snooping_nd_loss(survey: Survey) -> Iterator[Suspicion]:
    """Each guest whose group the bridge does not know while somebody queries."""
    for stack in survey.stacks:
        for port in stack.links or ():
            bridge = link_of(stack, port.master)
            settings = None if bridge is None else bridge.bridge
            if bridge is None or settings is None or not settings.multicast_snooping:
                continue
            inside = inside_of(survey.stacks, port)
            if not settings.multicast_querier or inside is None or stack.mdb is None:
                continue
            known = {entry.group for entry in stack.mdb or () if entry.port == port.name}
            for address in addresses_of(*(inside[0], inside[1].name)):
                if address.version == 6 and _group(int(address.ip)) not in known:
                    yield Suspicion(
                        subject=place(stack, port.name),
                        summary=f"{bridge.name} does not know that {inside[0].name} listens for "
                        f"{address.ip}: neighbours cannot find it",
                        evidence=(
                            Evidence(
                                f"no {_group(int(address.ip))}", f"bridge mdb in {stack.name}"
                            ),
                        ),
                    )


def _group(address: int) -> str:
    """The solicited-node group (RFC 4291 section 2.7.1)."""
    return str(ip_address((0xFF02 << 112) | (0x1FF << 24) | (address & 0xFFFFFF)))
