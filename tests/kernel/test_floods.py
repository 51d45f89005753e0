"""Questions for neighbours that a bridge does not flood, judged by the kernel."""

from __future__ import annotations

import pytest
from pinged import Pinged

from kvmdiag.model.trace import Outcome, Reason

pytestmark = pytest.mark.kernel


@pytest.fixture
def net(namespaces, eventually):
    """Guests g1 and g2 on the host's br0; the host is ...:1, they are ...:2 and ...:3."""

    def build(*, ipv6: bool = False, snooping: int = 0) -> Pinged:
        net = Pinged(namespaces, "host", "g1", "g2", ipv6=ipv6)
        network = "fd00::{}/64" if ipv6 else "10.0.0.{}/24"
        flags = "nodad" if ipv6 else ""
        net["host"].ip(
            f"link add br0 type bridge mcast_snooping {snooping}",
            "link set br0 up",
            f"addr add {network.format(1)} dev br0 {flags}",
        )
        for number, name in enumerate(("g1", "g2"), 2):
            net.cable(name, "eth0", "host", name)
            net["host"].ip(f"link set {name} master br0")
            net[name].ip(f"addr add {network.format(number)} dev eth0 {flags}")
        net.ready(eventually)
        return net

    return build


@pytest.mark.parametrize(
    ("ipv6", "flag", "lost"),
    [
        (False, "bcast_flood", True),
        (False, "mcast_flood", False),
        (True, "bcast_flood", False),
        (True, "mcast_flood", True),
    ],
)
def test_ports_that_are_not_flooded(net, ipv6, flag, lost):
    """ARP is broadcast, neighbour discovery multicast; what the host itself asks is flooded."""
    built = net(ipv6=ipv6)
    built["host"].run(f"bridge link set dev g2 {flag} off")
    target = "fd00::3" if ipv6 else "10.0.0.3"
    request = built.judged("g1", target).request
    assert (request.outcome is Outcome.UNRESOLVED) is lost
    if lost:
        assert request.reason is Reason.NO_FLOOD
    assert built.judged("host", target).works is True


def test_a_locked_port(net):
    """It takes frames only of those whom somebody has let in."""
    built = net()
    built["host"].run("bridge link set dev g1 locked on")
    assert built.judged("g1", "10.0.0.3").works is False
    mac = built["g1"].run("cat /sys/class/net/eth0/address").stdout.strip()
    built["host"].run(f"bridge fdb replace {mac} dev g1 master static")
    assert built.judged("g1", "10.0.0.3").works is True


def test_snooping_that_forgot_a_group(net, eventually):
    """With a querier a bridge sends neighbour discovery only to who is known to listen."""
    built = net(ipv6=True, snooping=1)
    host, group = built["host"], "ff02::1:ff00:3"
    # A querier counts once it has waited so long for answers to its first question.
    host.ip("link set br0 type bridge mcast_query_response_interval 10")
    host.ip("link set br0 type bridge mcast_querier 1")

    def forget() -> None:
        """The guests have yet to answer the querier, or may do so again."""
        for guest in ("g1", "g2"):
            built[guest].run("ip -6 neigh flush dev eth0")
        if group in host.run("bridge mdb show dev br0").stdout:
            host.run(f"bridge mdb del dev br0 port g2 grp {group}", check=False)

    def is_lost() -> bool:
        forget()
        request = built.walk("g1", "fd00::3").request
        told = (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.NO_FLOOD)
        # A guest that answered the querier meanwhile is known again, and then it is asked anew.
        return told and not built.pinged("g1", "fd00::3")

    eventually(is_lost, "the bridge still floods, or the walk says so", seconds=20)
    host.run(f"bridge mdb add dev br0 port g2 grp {group} permanent", check=False)  # or g2 did
    assert built.judged("g1", "fd00::3").works is True
