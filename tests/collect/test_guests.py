"""Several guests at once: each by itself, none waited for too long, all plugged in."""

from __future__ import annotations

import threading
import time

from kvmdiag.collect.guest.agent import AgentRefuses, AgentSilent
from kvmdiag.collect.guest.facts import GuestReading
from kvmdiag.collect.guests import not_looked_into, plugged_in, read_guests, unreachable
from kvmdiag.model.guest import Inside
from kvmdiag.model.libvirt import Domain, GuestNic
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.stack import Stack


def domain(name, *nics, state="running", agent="connected"):
    """A domain with an agent."""
    return Domain(name=name, state=state, nics=nics, agent=agent)


def nic(mac, tap):
    """A NIC and its tap."""
    return GuestNic(type="network", mac=mac, target=tap)


def stack(name, *links):
    """A guest's stack."""
    return Stack(name=name, kind="guest", netns=None, links=links)


def reading(name, *links, **more):
    """A guest that was looked into."""
    inside = Inside(domain=name, access="full", stack=name)
    return GuestReading(inside, stack(name, *links), **more)


def host(*taps):
    """A host with taps."""
    links = tuple(Link(index=number, name=tap, kind="tun") for number, tap in enumerate(taps, 1))
    return Stack(name="host", kind="host", netns=None, links=links)


def test_a_tap_leads_to_the_nic_with_the_mac_of_the_domain():
    """And that NIC to the tap."""
    web = reading("web", Link(index=2, name="ens3", mac="52:54:00:00:00:01"))
    seen, inside = plugged_in(
        host("vnet0"), [domain("web", nic("52:54:00:00:00:01", "vnet0"))], [web]
    )
    assert (seen.links[0].peer, seen.links[0].guest) == (LinkRef("web", "ens3"), "web")
    assert inside.links[0].peer == LinkRef("host", "vnet0")
    assert not inside.links[0].is_uplink


def test_a_guest_cannot_claim_the_tap_of_another():
    """By pretending to have its MAC address."""
    evil = reading("evil", Link(index=2, name="ens3", mac="52:54:00:00:00:01"))
    domains = [
        domain("web", nic("52:54:00:00:00:01", "vnet0")),
        domain("evil", nic("52:54:00:00:00:02", "vnet1")),
    ]
    seen, *_ = plugged_in(host("vnet0", "vnet1"), domains, [evil])
    assert [link.peer for link in seen.links] == [None, None]
    assert [link.guest for link in seen.links] == ["web", "evil"]


def test_what_is_stacked_on_a_nic_is_not_the_nic():
    """A VLAN device has its NIC's MAC; a bond gives all its NICs one, the hardware's is kept."""
    mac = "52:54:00:00:00:01"
    web = reading(
        "web",
        Link(index=4, name="bond0", kind="bond", mac="52:54:00:00:00:02"),
        Link(index=5, name="bond0.5", kind="vlan", mac=mac),
        Link(index=2, name="ens3", mac="52:54:00:00:00:02", master="bond0"),
        Link(index=3, name="ens4", mac="52:54:00:00:00:02", master="bond0"),
        permanent_macs={"ens3": mac},
    )
    domains = [domain("web", nic(mac, "vnet0"), nic("52:54:00:00:00:02", "vnet1"))]
    seen, _ = plugged_in(host("vnet0", "vnet1"), domains, [web])
    assert [str(link.peer) for link in seen.links] == ["web/ens3", "web/ens4"]


def test_the_guest_behind_a_tap_is_named_without_looking_into_it():
    """By the live XML of a guest that runs."""
    domains = [
        domain("web", nic("52:54:00:00:00:01", "vnet0")),
        domain("off", nic("52:54:00:00:00:02", "vnet9"), state="shutoff"),
    ]
    (seen,) = plugged_in(host("vnet0", "vnet9"), domains, [])
    assert [link.guest for link in seen.links] == ["web", None]


def test_a_guest_that_hangs_holds_up_no_other():
    """It is a gap of its own, and so is each that never had its turn."""
    release = threading.Event()

    def connect():
        def to(name):
            def send(*_):
                if name == "frozen":
                    release.wait(20)
                raise AgentRefuses("no")

            return send

        return to

    started = time.monotonic()
    readings = read_guests([domain("frozen"), domain("web")], connect, ["host"], seconds=0.4)
    release.set()
    assert time.monotonic() - started < 3
    gaps = {r.inside.domain: r.gaps[0].why for r in readings}
    assert "did not answer within" in gaps["frozen"]
    assert gaps["web"] == "no"


def test_guests_that_cannot_answer_are_not_asked():
    """Each with what would help; a guest that is shut off has no inside."""
    domains = [
        domain("paused", state="paused"),
        domain("bare", agent=None),
        domain("mute", agent="disconnected"),
        domain("off", state="shutoff"),
    ]

    def connect():
        raise AssertionError

    readings = read_guests(domains, connect, [])
    assert [(r.inside.domain, r.inside.access) for r in readings] == [
        ("paused", "none"),
        ("bare", "none"),
        ("mute", "none"),
    ]
    assert [r.gaps[0].help.split()[:2] for r in readings] == [
        ["virsh", "resume"],
        ["add", "org.qemu.guest_agent.0"],
        ["install", "and"],
    ]


def test_a_libvirt_that_refuses_is_a_gap_of_each_guest():
    """With its own words."""

    def connect():
        raise AgentSilent("qemu:///system: authentication failed")

    (read,) = read_guests([domain("web")], connect, [])
    assert read.gaps[0].why == "qemu:///system: authentication failed"


def test_a_guest_named_like_another_stack_gets_a_name_of_its_own():
    """The domain's name stays in what is told of its inside."""
    answers = iter(
        [
            '{"return": {"supported_commands": [{"name": "guest-network-get-interfaces"}]}}',
            '{"return": [{"name": "lo"}]}',
        ]
    )
    (read,) = read_guests([domain("host")], lambda: lambda _: lambda *_: next(answers), ["host"])
    assert (read.inside.domain, read.stack.name) == ("host", "host-2")


def test_guests_that_are_not_to_be_looked_into_are_said():
    """Unless there are none."""
    (gap,) = not_looked_into([domain("web")])
    assert "--guest-access" in gap.help
    assert not_looked_into([domain("off", state="shutoff")]) == ()
    (gap,) = unreachable([domain("web")])
    assert "does not answer" in gap.why
