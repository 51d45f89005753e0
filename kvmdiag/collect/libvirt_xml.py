"""Domains and networks from libvirt's XML, which a guest's owner may have written.

Source: libvirt.org/formatdomain.html and formatnetwork.html.
"""

from __future__ import annotations

from ipaddress import ip_interface
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from kvmdiag.model.libvirt import Domain, GuestNic, Network

_AGENT = "org.qemu.guest_agent.0"


def parse_domain(xml: str, state: str) -> Domain:
    """A domain from its XML.

    Raises:
        ValueError: it is not what libvirt writes.

    """
    root = _root(xml)
    nics = tuple(_nic(element) for element in root.iterfind("./devices/interface"))
    return Domain(name=root.findtext("name", ""), state=state, nics=nics, agent=_agent(root))


def parse_network(xml: str, *, active: bool, autostart: bool) -> Network:
    """A network from its XML.

    Raises:
        ValueError: it is not what libvirt writes.

    """
    root = _root(xml)
    forward = root.find("forward")
    return Network(
        name=root.findtext("name", ""),
        active=active,
        autostart=autostart,
        bridge=_attribute(root.find("bridge"), "name"),
        # The default of <forward> without a mode is nat.
        mode=None if forward is None else forward.get("mode", "nat"),
        forward_link=None if forward is None else _forward_link(forward),
        addresses=tuple(_network_address(element) for element in root.iterfind("ip")),
        dhcp=root.find("ip/dhcp") is not None,
    )


def _root(xml: str) -> Element:
    try:
        root: Element = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(f"libvirt's XML cannot be read: {error}") from None
    return root


def _agent(root: Element) -> str | None:
    for target in root.iterfind("./devices/channel/target"):
        if target.get("name") == _AGENT:
            # libvirt tells the state of a live domain only.
            return target.get("state", "unknown")
    return None


def _nic(element: Element) -> GuestNic:
    source = element.find("source")
    named = None if source is None else (source.get(k) for k in ("network", "bridge", "dev"))
    link = element.find("link")
    return GuestNic(
        type=element.get("type", ""),
        mac=_attribute(element.find("mac"), "address"),
        source=None if named is None else next((name for name in named if name), None),
        target=_attribute(element.find("target"), "dev"),
        link_state="up" if link is None else link.get("state", "up"),
        filter=_attribute(element.find("filterref"), "filter"),
    )


def _forward_link(forward: Element) -> str | None:
    return forward.get("dev") or _attribute(forward.find("interface"), "dev")


def _network_address(element: Element) -> str:
    """``192.168.122.1/24``; without a mask it is that of the address alone."""
    address = element.get("address", "")
    length = element.get("prefix") or element.get("netmask")
    return str(ip_interface(f"{address}/{length}" if length else address))


def _attribute(element: Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)
