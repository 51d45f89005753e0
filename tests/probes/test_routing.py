"""The probe is routed, translated and answered as any other packet of its source."""

from __future__ import annotations

import sys
from typing import Any

from kvmdiag.probes.trace import observe

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"

_LISTENER = """
import socket
server = socket.socket()
server.bind(("198.51.100.2", 7))
server.listen()
while True:
    server.accept()
"""


def test_policy_rules_on_ports_apply_to_tcp(routed: Any, asking: Any, walking: Any) -> None:
    """A SYN is routed with its port: the rule sends it astray, and not the one to another port."""
    a = routed["a"]
    a.run("ip rule add ipproto tcp dport 7 unreachable")
    seen = observe(
        routed.snapshot(), walking(asking("198.51.100.2", proto="tcp", port=7), THERE), timeout=1
    )
    assert seen.answer is not None
    assert seen.answer.local
    assert seen.travelling("request") == ()
    other = walking(asking("198.51.100.2", proto="tcp", port=8), THERE, BACK)
    assert observe(routed.snapshot(), other, timeout=1).answer.kind == "refused"


def test_nothing_stays_half_open(routed: Any, asking: Any, walking: Any, eventually: Any) -> None:
    """The connection is reset, at both ends, as soon as it is known to work."""
    b = routed["b"]
    b.start([sys.executable, "-c", _LISTENER])
    eventually(lambda: ":7 " in b.run("ss -Hltn").stdout, "nobody listens")
    asked = walking(asking("198.51.100.2", proto="tcp", port=7), THERE, BACK)
    assert observe(routed.snapshot(), asked, timeout=1).reached
    for name in ("a", "b"):
        states = "state established state syn-sent state syn-recv state fin-wait-1"
        left = routed[name].run(f"ss -Htn {states}").stdout
        assert left == ""


def test_a_udp_reply_behind_nat_that_changed_our_port(
    routed: Any, asking: Any, walking: Any, echo: Any
) -> None:
    """The reply bears neither the mark nor our port, and is seen at every hop all the same."""
    echo(routed["b"], "198.51.100.2")
    r = routed["r"]
    r.run("iptables -t nat -F POSTROUTING")
    r.run(
        "iptables -t nat -A POSTROUTING -o rb -p udp -j SNAT --to-source 198.51.100.1:50000-50009"
    )
    asked = asking("198.51.100.2", proto="udp", port=7)
    predicted = walking(asked, THERE, BACK)
    seen = observe(routed.snapshot(), predicted, timeout=2)
    assert seen.reached
    assert 50000 <= (seen.travelling("request")[-1].packet.sport or 0) <= 50009
    assert [str(s.place) for s in seen.travelling("reply")] == [
        "b/b0", "r/rb", "r/br0", "r/r0", "a/a0",
    ]  # fmt: skip
