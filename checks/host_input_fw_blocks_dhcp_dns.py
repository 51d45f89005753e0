"""The host's own firewall keeps the guests from its DHCP and DNS server.

Symptom: guests get no lease (169.254.x.x, "No DHCPOFFERS received") or no names; with a fixed
    address all else works.
Cause: INPUT drops what comes in by the bridge on UDP 67 or port 53, by a policy or a closing rule
    of ufw, nft or a person. Libvirt's nft backend adds no INPUT rules.
Harmless when: DHCP and DNS of that bridge are served elsewhere, as on a bridge to the LAN. That
    ping to the gateway fails means ICMP is dropped, no more.
Evidence: a packet for port 67 or 53 of the bridge's own address ends in the input hook.
Fix: accept these ports from that bridge: ufw allow in on BRIDGE to any port 67 proto udp, the
    zone libvirt in firewalld, or an accept rule.
Sources: https://libvirt.org/firewall.html, ufw(8)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, address_fact, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage

_PORTS = {53: "DNS", 67: "DHCP"}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.TABLES})
def host_input_fw_blocks_dhcp_dns(case: Case) -> Iterator[Suspicion]:
    """A packet for DHCP or DNS ends in the input hook of the stack that has the bridge."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    port = end.packet.dport
    if end.stage is not Stage.INPUT or port not in _PORTS or end.in_link is None:
        return
    remedy = accept_in_front(
        stack, rule, "input", Accepting(in_link=end.in_link, packet=end.packet)
    )
    yield Suspicion(
        subject=place(stack, end.in_link),
        summary=f"{stack.name} does not let {_PORTS[port]} in from {end.in_link} "
        f"({end.packet.proto} port {port})",
        evidence=(rule_fact(stack, rule), address_fact(stack, end.in_link)),
        remedies=((remedy,),) if remedy is not None else (),
    )
