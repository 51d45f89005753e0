"""Guests and networks from libvirt's daemon, and from its files when it does not answer."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from kvmdiag.collect.libvirt import files as libvirt_files
from kvmdiag.collect.libvirt import inventory as libvirt
from kvmdiag.collect.libvirt.files import Places
from kvmdiag.collect.libvirt.inventory import read_libvirt
from kvmdiag.model.libvirt import GuestNic, Lease

_NOWHERE = (0, 0)
_NO_FILES = Places("/none", "/none", "/none")


def test_libvirt_itself_is_asked():
    """Its own test driver has one guest and one network."""
    guests = read_libvirt("test:///default", _NO_FILES, _NOWHERE)
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


@pytest.fixture
def daemon(tmp_path):
    """The URI of a daemon whose socket is there; what listens on it, a test decides."""
    path = tmp_path / "virtqemud-sock"
    path.touch()
    return f"qemu+unix:///system?socket={path}"


def _hanging(daemon):
    """Something that accepts connections, and says nothing."""
    path = daemon.partition("=")[2]
    Path(path).unlink()
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    return server


def test_a_libvirt_that_has_died_is_said(daemon):
    """A socket nobody listens on: a line, no output of libvirt's own, no traceback."""
    guests = read_libvirt(daemon, _NO_FILES, _NOWHERE)
    assert (guests.domains, guests.networks) == (None, None)
    assert all("Failed to connect socket" in gap.why for gap in guests.gaps)
    assert not any(gap.expected for gap in guests.gaps)


def test_a_libvirt_that_hangs_is_said(daemon, monkeypatch):
    """It is not waited for for ever, and what it does not say is not empty."""
    monkeypatch.setattr(libvirt, "_SECONDS", 0.1)
    with _hanging(daemon):
        guests = read_libvirt(daemon, _NO_FILES, _NOWHERE)
    assert (guests.domains, guests.networks) == (None, None)
    assert all("did not answer within 0.1 s" in gap.why for gap in guests.gaps)


def test_a_library_that_cannot_be_loaded_is_said(daemon, monkeypatch, capfd):
    """As with a daemon that does not answer; and nothing is printed."""
    monkeypatch.setitem(sys.modules, "libvirt", None)
    guests = read_libvirt(daemon, _NO_FILES, _NOWHERE)
    assert (guests.domains, guests.networks) == (None, None)
    assert all("library cannot be loaded" in gap.why for gap in guests.gaps)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def places(tmp_path):
    """The files of a libvirt whose daemon has died while a guest runs."""
    made = Places(str(tmp_path / "run"), str(tmp_path / "etc"), str(tmp_path / "lib"))
    for folder in ("run/qemu", "run/network", "etc/qemu/networks/autostart", "lib/dnsmasq"):
        (tmp_path / folder).mkdir(parents=True)
    for name, state in (
        ("node1", "state='paused' reason='user' pid='1'"),
        ("gone", f"state='running' pid='{2**30}'"),
    ):
        status = f"<domstatus {state}><domain><name>{name}</name></domain></domstatus>"
        (tmp_path / f"run/qemu/{name}.xml").write_text(status)
    (tmp_path / "etc/qemu/off.xml").write_text("<domain><name>off</name></domain>")
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


def test_a_daemon_that_has_died_leaves_its_files(daemon, places):
    """They are looked at then too."""
    guests = read_libvirt(daemon, places, _NOWHERE)
    assert {domain.name for domain in guests.domains} == {"node1", "gone", "off"}
    (gap,) = guests.gaps
    assert (gap.fact, "Failed to connect socket" in gap.why) == ("libvirt", True)


def test_the_files_of_this_machine_tell_nothing_of_another(places):
    """The daemon there does not answer: its guests are unknown."""
    guests = read_libvirt("qemu+tcp://127.0.0.1:1/system", places, _NOWHERE)
    assert (guests.domains, guests.networks) == (None, None)


def test_a_file_that_is_not_libvirts_is_a_gap(places, monkeypatch, tmp_path):
    """Not a traceback, and not the rest without it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "etc/qemu/bad.xml").write_text("<domain")
    guests = read_libvirt("qemu:///session", places, _NOWHERE)
    assert guests.domains is None
    assert all("cannot be read" in gap.why for gap in guests.gaps)


def test_more_files_than_are_looked_at_are_a_gap(places, monkeypatch):
    """Not some of the guests without the others."""
    monkeypatch.setattr(libvirt_files, "_MOST_FILES", 1)
    guests = read_libvirt("qemu+unix:///system?socket=/none", places, _NOWHERE)
    assert guests.domains is None
    assert all("more than 1 files" in gap.why for gap in guests.gaps)


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
