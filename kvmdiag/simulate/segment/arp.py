"""Questions for neighbours, and the rules that keep them from getting through.

Bridges show them to the chains of family bridge (ebtables, nft). The machines that ask and
answer show ARP to chains of family arp; neighbour discovery is ICMPv6, and passes the hooks of
IPv6 like any packet, though conntrack leaves it alone. Sources: net/bridge/br_input.c,
net/ipv4/arp.c, net/ipv6/ndisc.c, icmpv6_error in nf_conntrack_proto_icmpv6.c.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any, Literal, cast

import msgspec

from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.facts.conntrack import UNTRACKED, Conntrack
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.rules.context import Context
from kvmdiag.simulate.rules.hook import HookResult, run_hook

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))


class _ArpPacket(Packet, frozen=True, kw_only=True):
    """To rules an ARP message is a packet of another family, without a protocol on top."""

    @property
    def family(self) -> Literal["ip", "ip6", "arp"]:
        """The netfilter family."""
        return "arp"


class Arp(msgspec.Struct, frozen=True):
    """A question or an answer, with the MAC addresses of its frame."""

    packet: Packet
    src_mac: str | None
    dst_mac: str | None
    asker: IPAddress
    wanted: IPAddress

    @property
    def name(self) -> str:
        """What people call it."""
        return "ARP" if self.wanted.version == 4 else "neighbour discovery"

    @property
    def is_question(self) -> bool:
        """Whether it is sent to many: bit 0 of the first byte of the MAC address."""
        return self.dst_mac is not None and bool(int(self.dst_mac[:2], 16) & 1)

    def hooks(self, side: Literal["input", "output"]) -> tuple[tuple[Family, HookName], ...]:
        """The hooks of the machine that takes it in, or sends it."""
        if self.wanted.version == 4:
            return (("arp", side),)
        if side == "input":
            return (("ip6", "prerouting"), ("ip6", "input"))
        return (("ip6", "output"), ("ip6", "postrouting"))


def question(sender: IPAddress, wanted: IPAddress, mac: str | None) -> Arp:
    """Who has ``wanted``? Asked of all."""
    if wanted.version == 4:
        return Arp(_packet(sender, wanted), mac, _BROADCAST, sender, wanted)
    group = IPv6Address(_SOLICITED | int(wanted) & 0xFFFFFF)
    tail = f"{int(wanted) & 0xFFFFFF:06x}"
    group_mac = f"33:33:ff:{tail[:2]}:{tail[2:4]}:{tail[4:]}"
    return Arp(_discovery(135, sender, group), mac, group_mac, sender, wanted)


def answer(asked: Arp, mac: str | None) -> Arp:
    """The one asked for tells its MAC address to the one that asked."""
    if asked.wanted.version == 4:
        packet = _packet(asked.wanted, asked.asker)
    else:
        packet = _discovery(136, asked.wanted, asked.asker)
    return Arp(packet, mac, asked.src_mac, asked.asker, asked.wanted)


def stopped_by(
    view: StackView,
    arp: Arp,
    family: Family,
    hook: HookName,
    in_link: str | None,
    out_link: str | None,
) -> RuleRef | None:
    """The rule that drops a message at a hook, ``None`` when it passes.

    Raises:
        NotUnderstood: that depends on something that cannot be evaluated.

    """
    link = in_link or out_link or ""
    of_device = family == "netdev"
    chains = view.device_chains(hook, link) if of_device else view.base_chains(family, hook)
    if not chains:
        return None
    at = Context(
        view=view,
        hook=hook,
        family=family,
        packet=arp.packet,
        in_link=in_link,
        out_link=out_link,
        src_mac=arp.src_mac,
        dst_mac=arp.dst_mac,
    )
    # Conntrack takes a look at discovery, and lets it be; before that it is not even untracked.
    tracked = None if family == "ip6" else UNTRACKED
    result = run_hook(at, Conntrack(), tracked, chains=chains)
    if result.kind == "unknown":
        raise NotUnderstood(view.name, f"whether {arp.name} passes {hook}: {result.why}")
    if result.kind != "accept":
        return result.rule
    remarked = hook == "output" and result.packet.mark != arp.packet.mark
    if remarked and family == "ip6" and any(base.chain.type == "route" for base in chains):
        return _led_astray(view, result, out_link)
    return None


def _led_astray(view: StackView, result: HookResult, link: str | None) -> RuleRef | None:
    """The rule whose mark makes a message of discovery leave by another link, or not at all.

    Source: ip6_route_me_harder in net/ipv6/netfilter.c, which keeps to the link only for
    destinations that mean nothing without one; rules may refuse these as well.
    """
    packet = result.packet
    near = packet.dst.is_multicast or packet.dst.is_link_local
    found = view.fib.lookup(
        Flow(
            dst=packet.dst,
            src=packet.src,
            oif=link if near else None,
            mark=packet.mark,
            proto=packet.proto,
        )
    )
    refused = found is not None and found.refusal is not None
    if not refused and (near or (found is not None and found.link == link)):
        return None
    return result.matched[-1] if result.matched else None


def _packet(sender: IPAddress, wanted: IPAddress) -> Packet:
    # The protocols of a question are those of IP; this one never gets that far.
    return _ArpPacket(src=sender, dst=wanted, proto=cast("Any", "arp"), length=28)


def _discovery(kind: int, src: IPAddress, dst: IPAddress) -> Packet:
    return Packet(src=src, dst=dst, proto="icmpv6", icmp_type=kind, icmp_code=0, ttl=255, length=72)
