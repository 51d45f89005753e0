"""libvirt's default network with real guests: what is found is what is so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kvmdiag.collect import libvirt
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
    assert [(i.domain, i.access) for i in snapshot.guests] == [("db", "full"), ("web", "full")]
    assert [gap for gap in snapshot.gaps if gap.stack in ("web", "db")] == []
    assert snapshot.guests[0].resolver.nameservers == ("192.168.122.1",)
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


@pytest.mark.parametrize("access", ["agent", "none"])
def test_taps_left_behind_by_a_network_that_was_restarted(libvirt_nat, access, eventually):
    """The cause is named, whether guests are looked into or not; its repair really helps."""
    libvirt_nat.virsh("net-destroy", "default")
    libvirt_nat.virsh("net-start", "default")
    assert not libvirt_nat.reaches("web", OUTSIDE)
    report = libvirt_nat.check("web", OUTSIDE, guest_access=access)
    (cause,) = [found for found in report.findings if found.role == "cause"]
    assert (cause.check, cause.verified) == ("net-restart-orphan-taps", True)
    for step in report.plan.steps:
        assert os.system(step.command) == 0
    # The bridge speaks STP: a port is silent for its first seconds.
    eventually(lambda: libvirt_nat.reaches("web", OUTSIDE), "web is still cut off", seconds=15)
    host = f"kvmdiag-{libvirt_nat.label}-host"
    os.system(f"ip -n {host} link set vnet1 master virbr0")
    eventually(lambda: libvirt_nat.reaches("db", OUTSIDE), "db is still cut off", seconds=15)


def test_a_route_that_is_missing_inside(libvirt_nat):
    """Found by looking inside; the repair is for a shell in there."""
    assert libvirt_nat.inside("web", "/usr/sbin/ip", "route", "del", "default") == 0
    try:
        assert not libvirt_nat.reaches("web", OUTSIDE)
        report = libvirt_nat.check("web", OUTSIDE)
        (cause,) = [found for found in report.findings if found.role == "cause"]
        assert (cause.check, cause.verified) == ("guest-no-default-route", True)
        (step,) = report.plan.steps
        assert step.where == "inside web"
        repair = step.command.split()
        assert libvirt_nat.inside("web", f"/usr/sbin/{repair[0]}", *repair[1:]) == 0
        assert libvirt_nat.reaches("web", OUTSIDE)
    finally:
        libvirt_nat.inside(
            "web", "/usr/sbin/ip", "route", "replace", "default", "via", "192.168.122.1"
        )


def test_a_cable_that_libvirt_has_pulled(libvirt_nat, eventually):
    """Virsh domif-setlink down: the link state is read, and the path does not work."""
    libvirt_nat.virsh("domif-setlink", "web", "vnet0", "down")
    try:
        snapshot = libvirt_nat.snapshot()
        (web,) = [domain for domain in snapshot.domains if domain.name == "web"]
        assert [nic.link_state for nic in web.nics] == ["down"]
        assert libvirt_nat.check("web", OUTSIDE).verdict != "healthy"
    finally:
        libvirt_nat.virsh("domif-setlink", "web", "vnet0", "up")
    eventually(lambda: libvirt_nat.reaches("web", OUTSIDE), "web is still cut off", seconds=15)


def test_a_guest_that_is_paused(libvirt_nat):
    """Its state and why are read, and its agent is not waited for."""
    libvirt_nat.virsh("suspend", "db")
    try:
        snapshot = libvirt_nat.snapshot()
        (db,) = [domain for domain in snapshot.domains if domain.name == "db"]
        assert (db.state, db.reason) == ("paused", "user")
        assert any(gap.help == "virsh resume db" for gap in snapshot.gaps)
    finally:
        libvirt_nat.virsh("resume", "db")


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
