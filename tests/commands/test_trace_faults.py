"""Every fault of every practice network, by the command: trace names place and rule or reason.

That check names the fault first is tested with the networks themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks
from kvmdiag.lab.spec import namespace

pytestmark = pytest.mark.kernel


class End(NamedTuple):
    """Where and how: ``request host/mybr0 dropped``; the rule's beginning, the kernel's reason.

    ``None`` where no rule decides; an empty reason where the kernel says nothing: it never sent
    the packet, or nothing comes back from beyond the uplink. ``asked`` where it is not the
    network's own example.
    """

    place: str
    rule: str | None = None
    reason: str = ""
    asked: tuple[str, ...] = ()


FORWARD = "iptables-nft table ip filter chain FORWARD"
PORT = ("10.0.0.9", "10.0.0.10", "--proto", "tcp", "--port", "8080")
NOT_ROUTED = "IP_INADDRERRORS at ip_error on"

ENDS = {
    "cluster": {
        "bridge-nf-forward-drop": End(
            "request host/mybr0 dropped", f"{FORWARD} policy", "NETFILTER_DROP at nft_do_chain"
        ),
        "ip-forward-off@master": End("request master/ens6 dropped", None, f"{NOT_ROUTED} ens6"),
        "ip-forward-off@host": End("request host/virbr0 dropped", None, f"{NOT_ROUTED} virbr0"),
        "per-iface-forwarding-off@host": End(
            "request host/virbr0 dropped", None, f"{NOT_ROUTED} virbr0"
        ),
        "per-iface-forwarding-off@master": End(
            "request master/ens6 dropped", None, f"{NOT_ROUTED} ens6"
        ),
        "masquerade-missing@host": End("reply host/eno1 dropped"),
        "masquerade-missing@master": End(
            "request host/eno1 rejected",
            "iptables-nft table ip filter chain LIBVIRT_FWO rule 2",
            "NETFILTER_DROP at nft_do_chain on virbr0",
        ),
        "guest-no-default-route@node1": End("request node1/- no-route"),
        "guest-no-default-route@master": End(
            "request master/ens6 no-route", None, "IP_INNOROUTES at ip_error on ens6"
        ),
        "guest-rp-filter-multihomed": End(
            "reply node1/ens3 dropped",
            None,
            "IP_RPFILTER at ip_rcv_finish_core on ens3",
            ("node1:ens3", "10.0.0.9"),
        ),
        "net-restart-orphan-taps": End(
            "reply host/virbr0 unresolved",
            None,
            "neighbour 192.168.122.236 on virbr0 is INCOMPLETE",
        ),
        "tap-admin-down": End(
            "request node1/ens6 unresolved", None, "neighbour 192.168.48.10 on ens6 is INCOMPLETE"
        ),
    },
    "devstack": {
        "masquerade-pinned-to-wrong-egress": End("reply host/eno2 dropped"),
        "masquerade-missing@host": End("reply host/eno1 dropped"),
        "ip-forward-off@host": End("request host/br-ex dropped", None, f"{NOT_ROUTED} br-ex"),
        "ip-forward-off@qrouter": End(
            "request qrouter/qr-6e7f8a9b-0c dropped", None, f"{NOT_ROUTED} qr-6e7f8a9b-0c"
        ),
        "docker-forward-drop-vs-libvirt-nft": End(
            "request host/eno1 dropped", f"{FORWARD} policy", "NETFILTER_DROP at nft_do_chain"
        ),
        "guest-no-default-route": End("request instance/- no-route"),
    },
    "kubevirt": {
        "kubevirt-launcher-nat-missing": End(
            "request host/cali12d4a061371 dropped",
            None,
            "IP_RPFILTER at ip_rcv_finish_core on cali12d4a061371",
        ),
        "ip-forward-off@launcher": End(
            "request launcher/k6t-eth0 dropped", None, f"{NOT_ROUTED} k6t-eth0"
        ),
        "ip-forward-off@host": End(
            "request launcher/eth0 unresolved", None, "neighbour 169.254.1.1 on eth0 is INCOMPLETE"
        ),
        "calico-natoutgoing-off": End("reply host/ens192 dropped"),
        "tap-admin-down": End(
            "request guest/eth0 unresolved", None, "neighbour 10.0.2.1 on eth0 is INCOMPLETE"
        ),
        "guest-no-default-route": End("request guest/- no-route"),
    },
    "models": {
        "dnat-blocked-by-libvirt-reject": End(
            "request host/virbr0 rejected",
            "iptables-nft table ip filter chain LIBVIRT_FWI rule 2",
            "NETFILTER_DROP at nft_do_chain on br0",
            PORT,
        ),
        "accept-rule-after-reject": End(
            "request host/virbr0 rejected",
            "iptables-nft table ip filter chain LIBVIRT_FWI rule 2",
            "NETFILTER_DROP at nft_do_chain on br0",
            PORT,
        ),
        "routed-net-no-return-route": End(
            "reply host/eno1 dropped", None, "", ("routed", "10.0.0.9")
        ),
        "masquerade-missing": End("reply host/eno1 dropped"),
        "ip-forward-off": End("request host/virbr0 dropped", None, f"{NOT_ROUTED} virbr0"),
        "bridge-uplink-missing": End(
            "request lan/ens3 unresolved",
            None,
            "neighbour 10.0.0.9 on ens3 is INCOMPLETE",
            ("lan", "10.0.0.9"),
        ),
    },
}
PATIENCE = ("--timeout", "0.5")
"""Whatever answers at all in a practice network does so within a few milliseconds."""

SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""


@pytest.fixture
def lab() -> Iterator[Callable[[str], str]]:
    """Builds a practice network for one test."""
    standing: list[str] = []

    def build(network: str) -> str:
        standing.append(manager.up(network, label=f"tf{network[:4]}{os.getpid()}"))
        return standing[-1]

    try:
        yield build
    finally:
        for label in standing:
            manager.down(label)


@contextmanager
def server(label: str) -> Iterator[None]:
    """Something to forward the port to, and a host that knows who asks from outside."""
    known = ["ip", "netns", "exec", namespace(label, "host"), "ping", "-c1", "-W2", PORT[0]]
    subprocess.run(known, check=True, capture_output=True, timeout=20)
    inside = ["ip", "netns", "exec", namespace(label, "web"), sys.executable, "-c", SERVER]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "listening\n"
            yield
        finally:
            program.terminate()


def test_no_fault_is_without_an_expected_end() -> None:
    """A fault that is added to a network has to be traced as well."""
    real = {
        name: {fault.name for fault in network.faults if fault.check is not None}
        for name, network in networks().items()
    }
    assert {name: set(ends) for name, ends in ENDS.items()} == real


@pytest.mark.parametrize("network", ENDS)
def test_place_and_rule_or_reason(
    network: str, lab: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The trace's end is as it must be, and the model expected just that."""
    label = lab(network)
    for fault, expected in ENDS[network].items():
        asked = expected.asked or tuple(networks()[network].example.split())

        manager.break_(label, fault)
        try:
            with server(label) if asked == PORT else nullcontext():
                on_tap = ("--on-tap",) if asked == PORT else ()
                command = ["--lab", label, "trace", *asked, *on_tap, *PATIENCE]
                code = main([*command, "--format", "json"])
        finally:
            manager.mend(label)
        trace = json.loads(capsys.readouterr().out)
        assert (fault, code) == (fault, 1)
        assert (fault, *_end(trace)) == (fault, *_wanted(expected, trace))
        kernel = trace["probe"]["kernel"]
        said = trace["probe"]["disagreement"], kernel["not_available"], kernel["diverged_at"]
        assert (fault, *said) == (fault, None, [], None)


def _end(trace: Any) -> tuple[str, str, str]:
    """Where and how it ended, the rule, and the kernel's reason."""
    end = trace["dropped_at"]
    place = f"{trace['direction']} {end['stack']}/{end['link'] or '-'} {trace['outcome']}"
    return place, end["rule"] or "", end["kernel_reason"] or ""


def _wanted(expected: End, trace: Any) -> tuple[str, str, str]:
    """The same as it should be: the rule and the reason in full where they begin as expected."""
    _, rule, reason = _end(trace)
    begun = [
        found if wanted and found.startswith(wanted) else wanted
        for wanted, found in ((expected.rule or "", rule), (expected.reason, reason))
    ]
    return expected.place, begun[0], begun[1]
