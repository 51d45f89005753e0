"""The same in IPv6: a real ping and the walk must come to the same end."""

from __future__ import annotations

import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.trace import Outcome, Reason
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk

pytestmark = pytest.mark.kernel

_DROP_FORWARD = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
_ONLY_ESTABLISHED = """*filter
:INPUT DROP [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p ipv6-icmp --icmpv6-type echo-request -j ACCEPT
COMMIT
"""
_NO_ECHO = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p ipv6-icmp --icmpv6-type 128 -j DROP\nCOMMIT\n"


class Net:
    """A host, two guests on its bridge, and a far machine on a cable of its own."""

    def __init__(self, namespaces, eventually) -> None:
        self.stacks = {name: namespaces(name) for name in ("host", "g1", "g2", "far")}
        for stack in self.stacks.values():
            stack.sysctl("net.ipv6.conf.default.accept_dad", 0)
        host = self.stacks["host"]
        host.ip("link add br0 type bridge mcast_snooping 0")
        for name, link in (("g1", "v1"), ("g2", "v2"), ("far", "up0")):
            self.stacks[name].cable("eth0", host, link)
            self.stacks[name].ip("link set lo up", "link set eth0 up")
        host.ip(
            *(f"link set {link} master br0" for link in ("v1", "v2")),
            *(f"link set {link} up" for link in ("lo", "v1", "v2", "up0", "br0")),
            "addr add fd00:1::1/64 dev br0 nodad",
            "addr add fd00:2::1/64 dev up0 nodad",
        )
        for name, address in (("g1", "fd00:1::2"), ("g2", "fd00:1::3"), ("far", "fd00:2::2")):
            gateway = address.rpartition("::")[0] + "::1"
            self.stacks[name].ip(
                f"addr add {address}/64 dev eth0 nodad", f"route add default via {gateway}"
            )
        host.sysctl("net.ipv6.conf.all.forwarding", 1)
        eventually(self._settled, "links never settled")

    def _settled(self) -> bool:
        """No address is tentative any more, so all links have carrier."""
        return not any(
            stack.run("ip -6 -o addr show tentative").stdout.strip()
            for stack in self.stacks.values()
        )

    def judged(self, source: str, address: str):
        """The walk, after it was held against a real ping."""
        paths = {stack.path: name for name, stack in self.stacks.items()}
        host = self.stacks["host"]
        snapshot = collect(
            Scope(
                host=host.path,
                include=tuple(stack.name for stack in self.stacks.values()),
                names=paths,
                libvirt=False,
            )
        )
        predicted = walk(snapshot, resolve(snapshot, source, address))
        done = self.stacks[source].run(f"ping -6 -c1 -W1 {address}", check=False)
        assert predicted.works is (done.returncode == 0), predicted.decisive.end
        return predicted


@pytest.fixture
def net(namespaces, eventually) -> Net:
    """Everything works."""
    return Net(namespaces, eventually)


@pytest.mark.parametrize(
    ("source", "address"),
    [("g1", "fd00:1::3"), ("g1", "fd00:1::1"), ("g1", "fd00:2::2"), ("far", "fd00:1::3"),
     ("g1", "fd00:2::1"), ("host", "fd00:2::2")],
)  # fmt: skip
def test_everything_works(net, source, address):
    """Bridged, to the bridge, routed, and to a router's far address."""
    assert net.judged(source, address).works is True


def test_forwarding_is_the_whole_stacks(net):
    """IPv6 asks conf.all, and drops what it does not forward."""
    net.stacks["host"].sysctl("net.ipv6.conf.all.forwarding", 0)
    assert net.judged("g1", "fd00:2::2").request.reason is Reason.FORWARDING_OFF


def test_no_way_back(net):
    """The far machine knows no route: the reply is lost, not the request."""
    net.stacks["far"].ip("route del default via fd00:2::1")
    predicted = net.judged("g1", "fd00:2::2")
    assert predicted.request.arrived
    assert predicted.reply.reason is Reason.NO_ROUTE


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_routes_that_say_no(net, kind):
    """Refusals of the host's routing table."""
    net.stacks["host"].ip(f"route add {kind} fd00:2::2/128")
    assert net.judged("g1", "fd00:2::2").request.reason is Reason.NO_ROUTE


def test_nobody_has_the_address(net):
    """Neighbour discovery stays without an answer."""
    assert net.judged("g1", "fd00:1::99").request.outcome is Outcome.UNRESOLVED


@pytest.mark.parametrize("call", [0, 1])
def test_bridged_frames_and_ip6tables(net, call):
    """br_netfilter shows IPv6 to FORWARD when asked to: discovery is dropped before any ping."""
    host = net.stacks["host"]
    host.sysctl("net.bridge.bridge-nf-call-ip6tables", call)
    host.run("ip6tables-restore", input=_DROP_FORWARD)
    predicted = net.judged("g1", "fd00:1::3")
    assert predicted.works is (call == 0)
    if call:
        assert predicted.request.outcome is Outcome.UNRESOLVED
        assert predicted.request.reason is Reason.NETFILTER


def test_input_that_forgets_neighbour_discovery(net):
    """Echo requests are let in, and yet nobody gets there: discovery is ICMPv6 too."""
    net.stacks["g2"].run("ip6tables-restore", input=_ONLY_ESTABLISHED)
    predicted = net.judged("g1", "fd00:1::3")
    assert (predicted.request.outcome, predicted.request.reason) == (
        Outcome.UNRESOLVED,
        Reason.NETFILTER,
    )


def test_input_that_drops_pings(net):
    """Discovery works, the ping does not."""
    net.stacks["g2"].run("ip6tables-restore", input=_NO_ECHO)
    request = net.judged("g1", "fd00:1::3").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NETFILTER)


def test_there_is_no_reverse_path_filter(net):
    """A source that would be answered by another link is none of IPv6's business."""
    host = net.stacks["host"]
    host.ip("route add fd00:1::2/128 via fd00:2::2")
    net.stacks["far"].ip("route add fd00:1::2/128 via fd00:2::1")
    predicted = net.judged("g1", "fd00:2::2")
    assert predicted.request.arrived


@pytest.mark.parametrize(("proxy", "works"), [(True, True), (False, False)])
def test_a_router_answers_for_others(net, proxy, works):
    """Proxy neighbour discovery: address by address, and only where it is switched on."""
    net.stacks["g1"].ip("route add fd00:2::/64 dev eth0")
    host = net.stacks["host"]
    host.sysctl("net.ipv6.conf.br0.proxy_ndp", 1)
    if proxy:
        host.ip("neigh add proxy fd00:2::2 dev br0")
    assert net.judged("g1", "fd00:2::2").works is works
