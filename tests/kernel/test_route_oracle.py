"""Route decisions of the walk against the kernel's own (RTM_GETROUTE), over random tables."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmdiag.collect.stack import read_stack
from kvmdiag.simulate.fib import Flow, Found
from kvmdiag.simulate.ingress import check_source
from kvmdiag.simulate.view import StackView
from kvmdiag.system.namespaces import entered

pytestmark = pytest.mark.kernel

_LINKS = {"a0": "10.1.0.1/24", "b0": "10.2.0.1/24", "c0": "10.3.0.1/16"}
_GATEWAYS = {"a0": "10.1.0.254", "b0": "10.2.0.254", "c0": "10.3.9.254"}
_UNREACHABLE = "Network is unreachable"
_INVALID = "Invalid argument"
_TABLES = (254, 100, 200)

_networks = st.sampled_from(
    ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.128/25", "172.16.0.0/12", "172.16.5.0/24",
     "172.16.5.77/32", "192.0.2.0/24", "192.0.2.64/26"]
)  # fmt: skip
_routes = st.tuples(
    _networks,
    st.sampled_from([*_LINKS, "unreachable", "prohibit", "blackhole", "throw"]),
    st.sampled_from(_TABLES),
    st.sampled_from([0, 10, 20]),
)
_rules = st.tuples(
    st.integers(1, 5),
    st.sampled_from(["", "from 10.1.0.0/24", "to 172.16.0.0/16", "iif a0", "fwmark 7",
                     "fwmark 0x10/0xf0", "ipproto udp dport 53", "not from 10.1.0.0/24"]),
    st.sampled_from([*(f"lookup {t}" for t in _TABLES), "prohibit", "unreachable",
                     "lookup 254 suppress_prefixlength 0"]),
)  # fmt: skip
_addresses = st.sampled_from(
    ["10.1.0.7", "10.1.0.200", "10.2.0.9", "10.3.44.1", "10.9.9.9", "172.16.5.77", "172.16.5.1",
     "172.20.0.1", "192.0.2.65", "192.0.2.1", "8.8.8.8", "10.1.0.1"]
)  # fmt: skip


@pytest.fixture
def router(namespaces):
    """A router with three links whose far ends are up, so that all routes are alive."""
    here, there = namespaces("router"), namespaces("there")
    commands = []
    for link, network in _LINKS.items():
        here.cable(link, there, link)
        there.ip(f"link set {link} up")
        commands += [f"addr add {network} dev {link}", f"link set {link} up"]
    here.ip("link set lo up", *commands)
    here.sysctl("net.ipv4.ip_forward", 1)
    return here


def _rebuild(router, routes, rules) -> None:
    """The given routes and rules, and nothing left of an earlier example."""
    router.run("ip -4 rule flush")
    router.ip(
        *(f"rule add pref {pref} lookup {table}" for pref, table in ((32766, 254), (32767, 253))),
        *(f"route flush table {table} proto static" for table in _TABLES),
    )
    for network, target, table, metric in routes:
        via = f"via {_GATEWAYS[target]} dev {target}" if target in _LINKS else ""
        kind = "" if target in _LINKS else target
        router.run(
            f"ip route add {kind} {network} {via} table {table} metric {metric} proto static",
            check=False,  # the same one may be drawn twice
        )
    for number, (_, selector, action) in enumerate(rules):
        router.run(f"ip rule add pref {100 + number} {selector} {action}")


def _ask_kernel(router, flows: list[Flow]) -> list[object]:
    """For each flow the outgoing link and gateway, ``local``, or what iproute2 says is wrong."""
    questions = [
        f"route get {f.dst} from {f.src} iif {f.iif} mark {f.mark}"
        f" ipproto {f.proto} sport {f.sport} dport {f.dport}\n"
        for f in flows
    ]
    asked = router.run(["ip", "-j", "-force", "-batch", "-"], check=False, input="".join(questions))
    complaints = re.findall(r"RTNETLINK answers: (.+)\nCommand failed -:(\d+)", asked.stderr)
    errors = {int(line): text for text, line in complaints}
    answers = iter(json.loads(line)[0] for line in asked.stdout.splitlines() if line != "[ ]")
    return [errors.get(line) or _answer(next(answers)) for line in range(1, len(flows) + 1)]


def _answer(route: dict[str, object]) -> object:
    if route.get("type") == "local":
        return "local"
    return route["dev"], route.get("gateway")


def _ask_model(view: StackView, flow: Flow) -> object:
    found: Found | None = view.fib.lookup(flow)
    if found is not None and found.route.type == "local":
        return "local" if check_source(view, flow.iif, flow, None) is None else _INVALID
    if found is None:
        return _UNREACHABLE
    if found.refusal is not None:
        by_rule = found.ref.text.startswith("ip rule")  # fib4_rule_action answers otherwise
        unreachable = _UNREACHABLE if by_rule else "No route to host"
        refusals = {"unreachable": unreachable, "prohibit": "Permission denied"}
        return refusals.get(found.refusal, _INVALID)
    if check_source(view, flow.iif, flow, found.link) is not None:
        return _INVALID
    return found.link, found.gateway


@given(
    routes=st.lists(_routes, max_size=8),
    rules=st.lists(_rules, max_size=3),
    questions=st.lists(
        st.tuples(
            _addresses,
            _addresses,
            st.sampled_from(list(_LINKS)),
            st.sampled_from([0, 7, 0x13]),
            st.sampled_from([("udp", 5000, 53), ("tcp", 5000, 80)]),
        ),
        min_size=5,
        max_size=15,
    ),
    filters=st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2]), st.booleans()),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_walk_routes_as_the_kernel_does(router, routes, rules, questions, filters):
    """Longest prefix, metric, tables, policy rules, refusals and the reverse path filter."""
    _rebuild(router, routes, rules)
    for name, value in zip(("all", "a0"), filters, strict=False):
        router.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
    router.sysctl("net.ipv4.conf.all.src_valid_mark", int(filters[2]))
    with entered(router.path):
        view = StackView(read_stack("router", "host", router.path).stack)
    flows = [
        Flow(
            dst=IPv4Address(dst),
            src=IPv4Address(src),
            iif=iif,
            mark=mark,
            proto=proto,
            sport=sport,
            dport=dport,
        )
        for dst, src, iif, mark, (proto, sport, dport) in questions
    ]
    for flow, kernel in zip(flows, _ask_kernel(router, flows), strict=True):
        assert kernel == _ask_model(view, flow), flow
