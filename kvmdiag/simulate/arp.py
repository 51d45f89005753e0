"""ARP messages, and the rules that keep them from getting through.

Bridges show them to the chains of family bridge (ebtables, nft); the machines that ask and
answer show them to those of family arp. Sources: net/bridge/br_input.c, net/ipv4/arp.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.conntrack import Conntrack
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.hook import run_hook
from kvmdiag.simulate.unread import NotUnderstood
from kvmdiag.simulate.view import StackView

_BROADCAST = "ff:ff:ff:ff:ff:ff"


class _ArpPacket(Packet, frozen=True, kw_only=True):
    """To rules an ARP message is a packet of another family, without a protocol on top."""

    @property
    def family(self) -> Literal["ip", "ip6", "arp"]:
        """The netfilter family."""
        return "arp"


@dataclass(frozen=True, slots=True)
class Arp:
    """A question or an answer, with the MAC addresses of its frame."""

    packet: Packet
    src_mac: str | None
    dst_mac: str | None


def question(sender: IPAddress, wanted: IPAddress, mac: str | None) -> Arp:
    """Who has ``wanted``? Asked of all."""
    return Arp(_packet(sender, wanted), mac, _BROADCAST)


def answer(asked: Arp, mac: str | None) -> Arp:
    """The one asked for tells its MAC address to the one that asked."""
    return Arp(_packet(asked.packet.dst, asked.packet.src), mac, asked.src_mac)


def stopped_by(
    view: StackView,
    arp: Arp,
    family: Family,
    hook: HookName,
    in_link: str | None,
    out_link: str | None,
) -> RuleRef | None:
    """The rule that drops an ARP message at a hook, ``None`` when it passes.

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
    result = run_hook(at, Conntrack(), chains=chains)
    if result.kind == "unknown":
        raise NotUnderstood(view.name, f"whether ARP passes {hook}: {result.why}")
    return None if result.kind == "accept" else result.rule


def _packet(sender: IPAddress, wanted: IPAddress) -> Packet:
    # The protocols of a question are those of IP; this one never gets that far.
    return _ArpPacket(src=sender, dst=wanted, proto=cast("Any", "arp"), length=28)
