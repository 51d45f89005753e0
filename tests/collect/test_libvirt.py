"""Guests and networks from libvirt, and from XML that somebody else may have written."""

from __future__ import annotations

import pytest

from kvmdiag.collect import libvirt_files
from kvmdiag.collect.libvirt import read_libvirt
from kvmdiag.collect.libvirt_files import Places
from kvmdiag.collect.libvirt_xml import (
    parse_binding,
    parse_domain,
    parse_filter,
    parse_network,
)
from kvmdiag.collect.qemu_processes import parse_command
from kvmdiag.model.libvirt import (
    Domain,
    FilterBinding,
    FilterRule,
    GuestNic,
    Lease,
    NwFilter,
    Reservation,
)

_NOWHERE = (0, 0)

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


def test_libvirt_itself_is_asked():
    """Its own test driver has one guest and one network."""
    guests = read_libvirt("test:///default", Places("/none", "/none", "/none"), _NOWHERE)
    assert guests.gaps == ()
    (domain,) = guests.domains
    assert (domain.name, domain.state, domain.persistent) == ("test", "running", True)
    assert domain.nics == (
        GuestNic(
            type="network",
            mac="aa:bb:cc:dd:ee:ff",
            source="default",
            bridge=domain.nics[0].bridge,
            target="testnet0",
        ),
    )
    (network,) = guests.networks
    assert (network.name, network.active, network.bridge) == ("default", True, "virbr0")
    assert (network.mode, network.addresses, network.dhcp) == ("nat", ("192.168.122.1/24",), True)
    assert guests.libvirt.version.count(".") == 2


def test_no_libvirt_is_said(monkeypatch, tmp_path):
    """It is not an empty list of guests."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    none = str(tmp_path)
    guests = read_libvirt("qemu:///session", Places(none, none, none), _NOWHERE)
    assert (guests.domains, guests.networks) == (None, None)
    assert {gap.fact for gap in guests.gaps} == {"domains", "networks"}
    assert all("does not run here" in gap.why and gap.expected for gap in guests.gaps)


def test_a_libvirt_that_does_not_answer_is_said(monkeypatch, tmp_path):
    """A socket nobody listens on: a line, no output of libvirt's own, no traceback."""
    (tmp_path / "libvirt").mkdir()
    (tmp_path / "libvirt" / "virtqemud-sock").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    socket = tmp_path / "libvirt/virtqemud-sock"
    guests = read_libvirt(f"qemu:///session?socket={socket}", Places(), _NOWHERE)
    assert guests.domains is None
    assert all("qemu:///session" in gap.why for gap in guests.gaps)


@pytest.fixture
def places(tmp_path):
    """The files of a libvirt whose daemon has died while a guest runs."""
    made = Places(str(tmp_path / "run"), str(tmp_path / "etc"), str(tmp_path / "lib"))
    for folder in ("run/qemu", "run/network", "etc/qemu/networks/autostart", "lib/dnsmasq"):
        (tmp_path / folder).mkdir(parents=True)
    status = f"<domstatus state='paused' reason='user' pid='1'>{_DOMAIN}</domstatus>"
    (tmp_path / "run/qemu/node1.xml").write_text(status)
    gone = _DOMAIN.replace("node1", "gone")
    (tmp_path / "run/qemu/gone.xml").write_text(
        f"<domstatus state='running' pid='{2**30}'>{gone}</domstatus>"
    )
    (tmp_path / "etc/qemu/off.xml").write_text(_DOMAIN.replace("node1", "off"))
    network = "<network><name>default</name><bridge name='virbr0'/></network>"
    (tmp_path / "run/network/default.xml").write_text(f"<networkstatus>{network}</networkstatus>")
    (tmp_path / "etc/qemu/networks/default.xml").write_text(network)
    (tmp_path / "etc/qemu/networks/other.xml").write_text(network.replace("default", "other"))
    (tmp_path / "etc/qemu/networks/autostart/default.xml").symlink_to("../default.xml")
    (tmp_path / "lib/dnsmasq/virbr0.status").write_text(
        '[{"ip-address": "192.0.2.5", "mac-address": "52:54:00:00:00:0A", "expiry-time": 7,'
        ' "client-id": "ff:01"}]'
    )
    return made


def test_the_files_tell_what_a_dead_daemon_does_not(places):
    """Running and defined domains, active and defined networks, leases."""
    domains = {d.name: (d.state, d.reason) for d in libvirt_files.domains(places)}
    assert domains == {
        "node1": ("paused", "user"),
        "gone": ("shutoff", None),
        "off": ("shutoff", None),
    }
    networks = {n.name: (n.active, n.autostart, n.leases) for n in libvirt_files.networks(places)}
    lease = Lease(mac="52:54:00:00:00:0a", address="192.0.2.5", expires=7, client_id="ff:01")
    assert networks["default"] == (True, True, (lease,))
    assert networks["other"][:2] == (False, False)


def test_without_the_daemon_guests_are_known_and_the_gap_is_said(places, monkeypatch, tmp_path):
    """What is read from files is there; that the daemon is not, too."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    guests = read_libvirt("qemu:///session", places, _NOWHERE)
    assert {domain.name for domain in guests.domains} == {"node1", "gone", "off"}
    (gap,) = guests.gaps
    assert (gap.fact, "from its files" in gap.why) == ("libvirt", True)


def test_a_file_that_is_not_libvirts_is_a_gap(places, monkeypatch, tmp_path):
    """Not a traceback, and not the rest without it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "etc/qemu/bad.xml").write_text("<domain")
    guests = read_libvirt("qemu:///session", places, _NOWHERE)
    assert guests.domains is None
    assert all("cannot be read" in gap.why for gap in guests.gaps)


@pytest.mark.parametrize("text", ["[{}]", "{", "[1]", '[{"ip-address": "x"}]'])
def test_leases_that_make_no_sense_are_not_read(places, tmp_path, text):
    """None, not empty."""
    (tmp_path / "lib/dnsmasq/virbr0.status").write_text(text)
    assert libvirt_files.leases(places, "virbr0") is None


@pytest.mark.parametrize(
    ("line", "backend"),
    [("", None), ('#firewall_backend = "x"', None), ('firewall_backend="nftables"', "nftables")],
)
def test_the_firewall_backend_that_is_configured(places, tmp_path, line, backend):
    """What network.conf says."""
    (tmp_path / "etc/network.conf").write_text(line + "\n")
    assert libvirt_files.firewall_backend(places) == backend


@pytest.mark.parametrize(
    "words",
    [
        ["-netdev", "tap,fd=33,id=n0", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0A"],
        [
            "-netdev",
            '{"type":"tap","fd":"33","id":"n0"}',
            "-device",
            '{"driver":"virtio-net-pci","netdev":"n0","mac":"52:54:00:00:00:0A"}',
        ],
        [
            "-netdev",
            "tap,ifname=vnet3,id=n0",
            "-device",
            "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0a",
        ],
    ],
)
def test_a_guest_from_the_command_line_of_its_qemu(words):
    """Old and new notation; the tap by its name or by the descriptor."""
    taps = {"33": "vnet3"}
    guest = parse_command(
        ["/usr/bin/qemu-system-x86_64", "-name", "guest=web,x=on", *words], taps.get
    )
    assert guest == Domain(
        name="web",
        state="running",
        nics=(
            GuestNic(
                type="ethernet", mac="52:54:00:00:00:0a", target="vnet3", model="virtio-net-pci"
            ),
        ),
    )
