"""A packet has come to its machine: whether anything there takes it."""

from __future__ import annotations

import pytest

from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.trace import Outcome, Reason


def test_pings_may_be_ignored(routed):
    """icmp_echo_ignore_all: it arrives, and nobody answers."""
    routed.set("far", "net.ipv4.icmp_echo_ignore_all", 1)
    walk = routed.walk("guest", "far")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.DROPPED, Reason.NO_LISTENER)
    assert routed.walk("guest", "far", "tcp", 80).works is True


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_nobody_listens(routed, proto):
    """The sockets were read, and none takes it: the sender is told."""
    routed.change("far", sockets=())
    request = routed.walk("guest", "far", proto, 80).request
    assert (request.outcome, request.reason) == (Outcome.REJECTED, Reason.NO_LISTENER)
    assert routed.walk("guest", "far", proto).works is True  # no port was asked for
    routed.change("far", sockets=None)
    walk = routed.walk("guest", "far", proto, 80)
    assert walk.works is True
    assert any("listens on" in sentence for sentence in walk.request.assumptions)


@pytest.mark.parametrize(
    ("address", "takes"),
    [("0.0.0.0", True), ("::", True), ("10.2.0.2", True), ("127.0.0.1", False)],
)
def test_which_address_a_socket_listens_on(routed, address, takes):
    """A wildcard, or the very address that was asked."""
    socket = ListeningSocket(protocol="tcp", address=address, port=80, uid=0, inode=1)
    routed.change("far", sockets=(socket,))
    assert routed.walk("guest", "far", "tcp", 80).request.arrived is takes
