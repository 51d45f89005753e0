"""Sizes and numbers of the headers that a probe, and what carries it, are made of.

Source: RFC 791, RFC 8200, RFC 768, RFC 7348, IANA's protocol numbers and EtherTypes.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmdiag.model.packet import Protocol

IP_HEADERS = {4: 20, 6: 40}
"""Bytes of the header of each version of IP, without options."""

UDP_HEADER, VXLAN_HEADER, MAC_HEADER, VLAN_TAG = 8, 8, 14, 4
"""Bytes."""

PROTOCOLS: Mapping[Protocol, int] = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
ETHER_TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
VLAN_TYPES = (b"\x81\x00", b"\x88\xa8")
