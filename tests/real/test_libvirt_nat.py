"""libvirt's default network with real guests: what is found is what is so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from kvmdiag.collect.libvirt import inventory as libvirt
from kvmdiag.lab import real_daemon

OUTSIDE = "10.0.0.9"


def test_all_is_well(libvirt_nat):
    """A guest reaches the outside, in truth and in the report."""
    assert libvirt_nat.reaches("web", OUTSIDE)
    report = libvirt_nat.check("web", OUTSIDE)
    assert report.verdict == "healthy"
    assert report.walk.reply.end.stack == "web"


def test_guests_reach_each_other(libvirt_nat):
    """By the bridge alone."""
    assert libvirt_nat.check("web", "db").verdict == "healthy"


def test_the_inside_is_seen_in_full(libvirt_nat):
    """Through the agent, with nothing left unread."""
    snapshot = libvirt_nat.snapshot()
    assert {(i.domain, i.access) for i in snapshot.guests} == {("db", "full"), ("web", "full")}
    assert [gap for gap in snapshot.gaps if gap.stack in ("web", "db")] == []
    assert all(i.resolver.nameservers == ("192.168.122.1",) for i in snapshot.guests)
    (network,) = snapshot.networks
    leased = {lease.hostname: lease.address for lease in network.leases}
    for name in ("web", "db"):
        mine = {address.address for address in snapshot.stack(name).addresses}
        assert leased[name] in mine


def test_looking_changes_nothing_inside(libvirt_nat):
    """No module is loaded, no setting and no route is another one."""
    places = ("/proc/modules", "/proc/net/route", "/proc/sys/net/ipv4/ip_forward")
    before = [libvirt_nat.content("db", place) for place in places]
    libvirt_nat.snapshot()
    assert [libvirt_nat.content("db", place) for place in places] == before


def test_a_libvirt_that_hangs(libvirt_nat, monkeypatch):
    """Its files tell of the guests; nobody waits for it for ever."""
    monkeypatch.setattr(libvirt, "_SECONDS", 0.5)
    home = real_daemon.folder(libvirt_nat.label)
    daemon = int(Path(home, "run/libvirtd.pid").read_text())
    os.kill(daemon, signal.SIGSTOP)
    try:
        snapshot = libvirt_nat.snapshot()
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert {(domain.name, domain.state) for domain in snapshot.domains} == {
        ("web", "running"),
        ("db", "running"),
    }
    assert {gap.fact for gap in snapshot.gaps} >= {"libvirt", "guests"}
    taps = {link.guest for link in snapshot.stack("host").links if link.kind == "tun"}
    assert taps == {"web", "db"}
