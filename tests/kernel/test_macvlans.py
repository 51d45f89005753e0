"""Macvlans and macvtaps, judged by the kernel: who hears whom, by mode."""

from __future__ import annotations

import pytest
from pinged import Pinged

from kvmdiag.model.trace import Outcome, Reason

pytestmark = pytest.mark.kernel


@pytest.fixture
def net(namespaces, eventually):
    """Containers c1 and c2 on the host's nic0, far on the switch that nic0 leads to."""

    def build(mode: str, *, hairpin: bool = False, containers=("c1", "c2")) -> Pinged:
        net = Pinged(namespaces, "host", "switch", "far", *containers)
        net["switch"].ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")
        net.cable("host", "nic0", "switch", "p1")
        net.cable("far", "eth0", "switch", "p2")
        net["switch"].ip("link set p1 master br0", "link set p2 master br0")
        if hairpin:
            net["switch"].run("bridge link set dev p1 hairpin on")
        net["host"].ip("addr add 10.0.0.1/24 dev nic0")
        net["far"].ip("addr add 10.0.0.9/24 dev eth0")
        for number, name in enumerate(containers, 2):
            space = net[name].name
            net["host"].ip(f"link add eth0 link nic0 netns {space} type macvlan mode {mode}")
            net[name].ip(f"addr add 10.0.0.{number}/24 dev eth0", "link set eth0 up")
        net.ready(eventually)
        return net

    return build


@pytest.mark.parametrize(
    ("mode", "hairpin", "works"),
    [
        ("bridge", False, True),
        ("vepa", False, False),
        ("vepa", True, True),
        ("private", False, False),
        ("private", True, False),
    ],
)
def test_who_reaches_whom(net, mode, hairpin, works):
    """In mode bridge directly, in vepa by a switch that sends back, in private not at all.

    Everybody reaches the world, and nobody the machine itself: frames go out by the lower link
    and never up from it. Only what the switch sends back comes up.
    """
    built = net(mode, hairpin=hairpin)
    assert built.judged("c1", "10.0.0.3").works is works
    assert built.judged("c1", "10.0.0.9").works is True
    assert built.judged("far", "10.0.0.3").works is True
    assert built.judged("c1", "10.0.0.1").works is (mode == "vepa" and hairpin)


def test_passthru_takes_all_there_is(net):
    """The lower link itself gets nothing any more, whatever the MAC address."""
    built = net("passthru", containers=("c1",))
    assert built.judged("far", "10.0.0.2").works is True
    assert built.judged("far", "10.0.0.1").works is False


def test_one_set_down(net):
    """Frames for it are dropped before anybody else could have them."""
    built = net("bridge")
    built["c2"].ip("link set eth0 down")
    assert built.judged("c1", "10.0.0.3").works is False
    assert built.judged("far", "10.0.0.3").works is False


def test_an_address_known_beforehand(net):
    """Where ARP is not needed a macvlan is still not heard by its own machine."""
    built = net("bridge")
    mac = built["host"].run("cat /sys/class/net/nic0/address").stdout.strip()
    built["c1"].ip(f"neigh add 10.0.0.1 lladdr {mac} dev eth0")
    request = built.judged("c1", "10.0.0.1").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NO_PORT)
