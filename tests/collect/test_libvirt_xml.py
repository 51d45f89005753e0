"""libvirt's XML, which somebody else may have written."""

from __future__ import annotations

import pytest

from kvmdiag.collect.libvirt.xml import (
    parse_binding,
    parse_domain,
    parse_filter,
    parse_network,
)
from kvmdiag.model.libvirt import (
    Domain,
    FilterBinding,
    FilterRule,
    GuestNic,
    NwFilter,
    Reservation,
)

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
                bridge="mybr0",
                target="vnet3",
                link_state="down",
                filter="clean-traffic",
            ),
            GuestNic(
                type="network",
                mac="52:54:00:78:70:ab",
                source="default",
                bridge="virbr0",
                target="vnet1",
            ),
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


def test_all_that_an_interface_can_be_told():
    """Rates, tags, isolation, filter variables, the mode of a macvtap."""
    xml = """<domain><name>n</name><devices><interface type='direct'>
      <mac address='52:54:00:00:00:01'/><source dev='eno1' mode='bridge'/>
      <virtualport type='802.1Qbh'/><model type='virtio'/><mtu size='1400'/>
      <bandwidth><inbound average='1000'/><outbound average='500' peak='900'/></bandwidth>
      <vlan trunk='yes'><tag id='5'/><tag id='6'/></vlan><port isolated='yes'/>
      <filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.2'/></filterref>
    </interface></devices></domain>"""
    (nic,) = parse_domain(xml, "running").nics
    assert nic == GuestNic(
        type="direct",
        mac="52:54:00:00:00:01",
        source="eno1",
        mode="bridge",
        virtualport="802.1Qbh",
        model="virtio",
        mtu=1400,
        inbound=1000,
        outbound=500,
        vlans=(5, 6),
        trunk=True,
        isolated=True,
        filter="clean-traffic",
        filter_parameters=(("IP", "192.0.2.2"),),
    )


def test_what_a_network_serves():
    """Ranges and reservations of its DHCP, its domain, and whether it answers DNS."""
    xml = """<network><name>n</name><domain name='lab.test'/><dns enable='no'/><mtu size='9000'/>
      <port isolated='yes'/><ip address='192.0.2.1' prefix='24'><dhcp>
      <range start='192.0.2.2' end='192.0.2.9'/>
      <host mac='52:54:00:00:00:0A' name='web' ip='192.0.2.5'/></dhcp></ip></network>"""
    network = parse_network(xml, active=True, autostart=False)
    assert network.ranges == (("192.0.2.2", "192.0.2.9"),)
    assert network.reservations == (
        Reservation(address="192.0.2.5", mac="52:54:00:00:00:0a", name="web"),
    )
    assert (network.domain, network.dns, network.mtu) == ("lab.test", False, 9000)
    assert network.isolated


def test_filters_and_where_they_are_in_force():
    """Rules with what they match, in the words of the XML."""
    xml = """<filter name='no-ip-spoofing' chain='ipv4-ip'><filterref filter='other'/>
      <rule action='return' direction='out'><ip srcipaddr='$IP'/></rule>
      <rule action='drop' direction='out' priority='600'/></filter>"""
    assert parse_filter(xml) == NwFilter(
        name="no-ip-spoofing",
        chain="ipv4-ip",
        includes=("other",),
        rules=(
            FilterRule(
                action="return", direction="out", protocol="ip", match=(("srcipaddr", "$IP"),)
            ),
            FilterRule(action="drop", direction="out", priority=600),
        ),
    )
    xml = """<filterbinding><owner><name>web</name></owner><portdev name='vnet0'/>
      <filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.2'/></filterref>
      </filterbinding>"""
    assert parse_binding(xml) == FilterBinding(
        tap="vnet0", filter="clean-traffic", parameters=(("IP", "192.0.2.2"),)
    )
