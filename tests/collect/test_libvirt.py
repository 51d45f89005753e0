"""Guests and networks from libvirt, and from XML that somebody else may have written."""

from __future__ import annotations

import pytest

from kvmdiag.collect.libvirt import read_libvirt
from kvmdiag.collect.libvirt_xml import parse_domain, parse_network
from kvmdiag.model.libvirt import Domain, GuestNic, Network

_DOMAIN = """
<domain type='kvm' id='3'>
  <name>node1</name>
  <devices>
    <interface type='bridge'>
      <mac address='52:54:00:eb:6c:6a'/>
      <source bridge='mybr0'/>
      <target dev='vnet3'/>
      <filterref filter='clean-traffic'/>
      <link state='down'/>
    </interface>
    <interface type='network'>
      <mac address='52:54:00:78:70:ab'/>
      <source network='default' portid='x' bridge='virbr0'/>
      <target dev='vnet1'/>
    </interface>
    <interface type='user'/>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
    </channel>
  </devices>
</domain>
"""


def test_the_nics_of_a_domain():
    """What they are plugged into, by which tap, and whether the cable is plugged in."""
    assert parse_domain(_DOMAIN, "running") == Domain(
        name="node1",
        state="running",
        nics=(
            GuestNic(
                type="bridge",
                mac="52:54:00:eb:6c:6a",
                source="mybr0",
                target="vnet3",
                link_state="down",
                filter="clean-traffic",
            ),
            GuestNic(type="network", mac="52:54:00:78:70:ab", source="default", target="vnet1"),
            GuestNic(type="user"),
        ),
        agent="connected",
    )


@pytest.mark.parametrize(
    ("forward", "mode", "link"),
    [
        ("", None, None),
        ("<forward/>", "nat", None),
        ("<forward mode='route' dev='eno1'/>", "route", "eno1"),
        ("<forward mode='nat'><interface dev='eno2'/></forward>", "nat", "eno2"),
    ],
)
def test_the_modes_of_a_network(forward, mode, link):
    """Without <forward> it is isolated."""
    xml = f"<network><name>n</name>{forward}<bridge name='virbr0'/></network>"
    network = parse_network(xml, active=True, autostart=False)
    assert (network.mode, network.forward_link, network.bridge) == (mode, link, "virbr0")


def test_the_addresses_of_a_network():
    """With a netmask, a prefix length, or neither."""
    xml = """<network><name>n</name>
      <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp/></ip>
      <ip family='ipv6' address='2001:db8::1' prefix='64'/><ip address='10.0.0.1'/></network>"""
    network = parse_network(xml, active=False, autostart=True)
    assert network.addresses == ("192.168.122.1/24", "2001:db8::1/64", "10.0.0.1/32")
    assert (network.dhcp, network.active, network.autostart) == (True, False, True)


@pytest.mark.parametrize(
    "xml",
    [
        "<domain>",
        "",
        "<!DOCTYPE d [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]><domain><name>&c;</name></domain>",
    ],
)
def test_xml_that_is_broken_or_hostile_is_refused(xml):
    """Entities are not expanded."""
    with pytest.raises(ValueError, match="cannot be read"):
        parse_domain(xml, "running")


def test_libvirt_itself_is_asked():
    """Its own test driver has one guest and one network."""
    guests = read_libvirt("test:///default")
    assert guests.gaps == ()
    assert guests.domains == (
        Domain(
            name="test",
            state="running",
            nics=(
                GuestNic(
                    type="network", mac="aa:bb:cc:dd:ee:ff", source="default", target="testnet0"
                ),
            ),
        ),
    )
    assert guests.networks == (
        Network(
            name="default",
            active=True,
            bridge="virbr0",
            mode="nat",
            addresses=("192.168.122.1/24",),
            dhcp=True,
        ),
    )


def test_no_libvirt_is_said(monkeypatch, tmp_path):
    """It is not an empty list of guests."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    guests = read_libvirt("qemu:///session")
    assert (guests.domains, guests.networks) == (None, None)
    assert {gap.fact for gap in guests.gaps} == {"domains", "networks"}
    assert all("does not run here" in gap.why for gap in guests.gaps)


def test_a_libvirt_that_does_not_answer_is_said(monkeypatch, tmp_path):
    """A socket nobody listens on: a line, no output of libvirt's own, no traceback."""
    (tmp_path / "libvirt").mkdir()
    (tmp_path / "libvirt" / "virtqemud-sock").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    guests = read_libvirt("qemu:///session?socket=" + str(tmp_path / "libvirt/virtqemud-sock"))
    assert guests.domains is None
    assert all("qemu:///session" in gap.why for gap in guests.gaps)
