"""Domains, networks and filters from libvirt's XML, which a guest's owner may have written.

Source: libvirt.org/formatdomain.html, formatnetwork.html and formatnwfilter.html.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from kvmdiag.model.libvirt import (
    Domain,
    FilterBinding,
    FilterRule,
    GuestNic,
    Network,
    NwFilter,
    Reservation,
)

_AGENT = "org.qemu.guest_agent.0"
_LONGEST = 8 << 20


def parse_domain(xml: str | Element, state: str) -> Domain:
    """A domain from its XML.

    Raises:
        ValueError: it is not what libvirt writes.

    """
    root = parsed(xml) if isinstance(xml, str) else xml
    nics = tuple(_nic(element) for element in root.iterfind("./devices/interface"))
    return Domain(
        name=root.findtext("name", ""),
        state=state,
        nics=nics,
        agent=_agent(root),
        uuid=root.findtext("uuid"),
    )


def parse_network(xml: str | Element, *, active: bool, autostart: bool) -> Network:
    """A network from its XML.

    Raises:
        ValueError: it is not what libvirt writes.

    """
    root = parsed(xml) if isinstance(xml, str) else xml
    forward = root.find("forward")
    dns = root.find("dns")
    mtu = _attribute(root.find("mtu"), "size")
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
        ranges=tuple(
            (_address(found.get("start")), _address(found.get("end")))
            for found in root.iterfind("ip/dhcp/range")
        ),
        reservations=tuple(
            Reservation(address=_address(found.get("ip")), mac=_mac(found), name=found.get("name"))
            for found in root.iterfind("ip/dhcp/host")
            if found.get("ip")
        ),
        dns=dns is None or dns.get("enable", "yes") == "yes",
        domain=_attribute(root.find("domain"), "name"),
        mtu=None if mtu is None else int(mtu),
        mac=_attribute(root.find("mac"), "address"),
        isolated=_attribute(root.find("port"), "isolated") == "yes",
    )


def parse_filter(xml: str) -> NwFilter:
    """An nwfilter from its XML.

    Raises:
        ValueError: it is not what libvirt writes.

    """
    root = parsed(xml)
    return NwFilter(
        name=root.get("name", ""),
        chain=root.get("chain", "root"),
        includes=tuple(found.get("filter", "") for found in root.iterfind("filterref")),
        rules=tuple(_filter_rule(element) for element in root.iterfind("rule")),
    )


def parse_binding(xml: str) -> FilterBinding:
    """What nwfilter is in force on a tap.

    Raises:
        ValueError: it is not what libvirt writes.

    """
    root = parsed(xml)
    reference = root.find("filterref")
    return FilterBinding(
        tap=_attribute(root.find("portdev"), "name") or "",
        filter=_attribute(reference, "filter") or "",
        parameters=_parameters(reference),
    )


def parsed(xml: str) -> Element:
    """The root of libvirt's XML, without any expansion.

    Raises:
        ValueError: it is no XML, too long, or hostile.

    """
    if len(xml) > _LONGEST:
        raise ValueError("libvirt's XML cannot be read: it is too long")
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
    # In the files below /run what a network's port came to is told apart from what was asked.
    actual = element.find("actual")
    source = element.find("source")
    used = source if actual is None else actual.find("source")
    named = None if source is None else (source.get(k) for k in ("network", "bridge", "dev"))
    link = element.find("link")
    reference = element.find("filterref")
    mtu = _attribute(element.find("mtu"), "size")
    vlan = element.find("vlan")
    tags = [] if vlan is None else [found.get("id", "") for found in vlan.iterfind("tag")]
    return GuestNic(
        type=element.get("type", ""),
        mac=_attribute(element.find("mac"), "address"),
        source=None if named is None else next((name for name in named if name), None),
        target=_attribute(element.find("target"), "dev"),
        link_state="up" if link is None else link.get("state", "up"),
        filter=_attribute(reference, "filter"),
        filter_parameters=_parameters(reference),
        bridge=_attribute(used, "bridge"),
        mode=_attribute(used, "mode"),
        model=_attribute(element.find("model"), "type"),
        mtu=None if mtu is None else int(mtu),
        inbound=_rate(element.find("bandwidth/inbound")),
        outbound=_rate(element.find("bandwidth/outbound")),
        isolated=_attribute(element.find("port"), "isolated") == "yes",
        vlans=tuple(int(tag) for tag in tags),
        trunk=vlan is not None and (vlan.get("trunk") == "yes" or len(tags) > 1),
        virtualport=_attribute(element.find("virtualport"), "type"),
        port_group=_attribute(source, "portgroup"),
    )


def _parameters(reference: Element | None) -> tuple[tuple[str, str], ...]:
    found: Iterable[Element] = () if reference is None else reference.iterfind("parameter")
    return tuple((each.get("name", ""), each.get("value", "")) for each in found)


def _filter_rule(element: Element) -> FilterRule:
    about = next(iter(element), None)
    return FilterRule(
        action=element.get("action", ""),
        direction=element.get("direction", ""),
        priority=int(element.get("priority", "500")),
        protocol=None if about is None else about.tag,
        match=() if about is None else tuple(sorted(about.attrib.items())),
    )


def _rate(element: Element | None) -> int | None:
    average = _attribute(element, "average")
    return None if average is None else int(average)


def _forward_link(forward: Element) -> str | None:
    return forward.get("dev") or _attribute(forward.find("interface"), "dev")


def _network_address(element: Element) -> str:
    """``192.168.122.1/24``; without a mask it is that of the address alone."""
    address = element.get("address", "")
    length = element.get("prefix") or element.get("netmask")
    return str(ip_interface(f"{address}/{length}" if length else address))


def _address(text: str | None) -> str:
    return str(ip_address(text or ""))


def _mac(element: Element) -> str | None:
    mac = element.get("mac")
    return None if mac is None else mac.lower()


def _attribute(element: Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)
