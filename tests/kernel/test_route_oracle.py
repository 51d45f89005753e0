"""Route decisions of the walk against the kernel's own (RTM_GETROUTE), over random tables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmdiag.collect.stack import read_stack
from kvmdiag.simulate.facts.fib import Flow, Found
from kvmdiag.simulate.facts.ingress import check_source
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.system.namespaces import entered

pytestmark = pytest.mark.kernel

_UNREACHABLE = "Network is unreachable"
_INVALID = "Invalid argument"
_TABLES = (254, 100, 200)


@dataclass(frozen=True)
class Plan:
    """What is drawn from, for one version of IP."""

    version: int
    links: dict[str, str]
    gateways: dict[str, str]
    networks: list[str]
    selectors: list[str]
    sources: list[str]
    addresses: list[str]


_FOUR = Plan(
    4,
    {"a0": "10.1.0.1/24", "b0": "10.2.0.1/24", "c0": "10.3.0.1/16"},
    {"a0": "10.1.0.254", "b0": "10.2.0.254", "c0": "10.3.9.254"},
    ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.0.128/25", "172.16.0.0/12", "172.16.5.0/24",
     "172.16.5.77/32", "192.0.2.0/24", "192.0.2.64/26"],
    ["from 10.1.0.0/24", "to 172.16.0.0/16", "not from 10.1.0.0/24"],
    [""],
    ["10.1.0.7", "10.1.0.200", "10.2.0.9", "10.3.44.1", "10.9.9.9", "172.16.5.77", "172.16.5.1",
     "172.20.0.1", "192.0.2.65", "192.0.2.1", "8.8.8.8", "10.1.0.1"],
)  # fmt: skip
_SIX = Plan(
    6,
    {"a0": "fd01::1/64", "b0": "fd02::1/64", "c0": "fd03::1/48"},
    {"a0": "fd01::fe", "b0": "fd02::fe", "c0": "fd03::9:fe"},
    ["::/0", "fd00::/8", "fd01::/48", "fd01::8000:0:0:0/65", "2001:db8::/32", "2001:db8:5::/48",
     "2001:db8:5::77/128", "2001:db8:6::/64", "2001:db8:6::/80"],
    ["from fd01::/64", "to 2001:db8:5::/48", "not from fd01::/64"],
    ["", "", "from fd01::/64 ", "from fd00::/8 "],
    ["fd01::7", "fd01::8000:0:0:1", "fd02::9", "fd03::44:1", "fd09::9", "2001:db8:5::77",
     "2001:db8:5::1", "2001:db8:6::1", "2001:db8:6:0:0:1::", "2001:4860::8", "fd01::1"],
)  # fmt: skip
_SELECTORS = ["", "iif a0", "fwmark 7", "fwmark 0x10/0xf0", "ipproto udp dport 53",
              "ipproto tcp sport 1000-6000", "iif b0 ipproto udp", "not fwmark 7", "oif b0",
              "not iif a0"]  # fmt: skip
_ACTIONS = [*(f"lookup {t}" for t in _TABLES), "prohibit", "unreachable", "blackhole",
            *(f"lookup 254 suppress_prefixlength {n}" for n in (0, 16)), "goto 200"]  # fmt: skip


def _routes(plan: Plan) -> st.SearchStrategy[list[tuple[str, str, str, int, int]]]:
    target = st.sampled_from([*plan.links, *plan.links, "unreachable", "prohibit", "blackhole",
                              "throw"])  # fmt: skip
    one = st.tuples(
        st.sampled_from(plan.networks),
        st.sampled_from(plan.sources),
        target,
        st.sampled_from(_TABLES),
        st.sampled_from([10, 20, 2000]),
    )
    return st.lists(one, max_size=8)


def _rules(plan: Plan) -> st.SearchStrategy[list[tuple[str, str]]]:
    selectors = st.sampled_from([*_SELECTORS, *plan.selectors])
    return st.lists(st.tuples(selectors, st.sampled_from(_ACTIONS)), max_size=4)


def _questions(plan: Plan) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    one = st.tuples(
        st.sampled_from(plan.addresses),
        st.sampled_from(plan.addresses),
        st.sampled_from(list(plan.links)),
        st.sampled_from([0, 7, 0x13]),
        st.sampled_from([("udp", 5000, 53), ("tcp", 5000, 80)]),
    )
    return st.lists(one, min_size=5, max_size=15)


@pytest.fixture
def router(namespaces):
    """A router with three links whose far ends are up, so that all routes are alive."""
    here, there = namespaces("router"), namespaces("there")
    for space in (here, there):
        space.sysctl("net.ipv6.conf.default.accept_dad", 0)
    for link in _FOUR.links:
        here.cable(link, there, link)
        there.ip(f"link set {link} up")
        here.ip(
            f"link set {link} up",
            f"addr add {_FOUR.links[link]} dev {link}",
            f"addr add {_SIX.links[link]} dev {link} nodad",
        )
    here.ip("link set lo up")
    here.sysctl("net.ipv4.ip_forward", 1)
    here.sysctl("net.ipv6.conf.all.forwarding", 1)
    return here


def _rebuild(router, plan: Plan, routes, rules) -> None:
    """The given routes and rules, and nothing left of an earlier example."""
    ip = f"ip -{plan.version} -force -batch -"
    lines = ["rule flush"]
    if plan.version == 6:  # flush takes it, and without it nothing is local
        lines.append("rule add pref 0 lookup 255")
    lines += [
        f"rule add pref {pref} lookup {table}" for pref, table in ((32766, 254), (32767, 253))
    ]
    lines += [f"route flush table {table} proto static" for table in _TABLES]
    for network, source, target, table, metric in routes:
        via = f"via {plan.gateways[target]} dev {target}" if target in plan.links else ""
        kind = "" if target in plan.links else target
        more = f"table {table} metric {metric} proto static"
        lines.append(f"route add {kind} {network} {source}{via} {more}")
    # Rules are refused that go to one that is not there yet.
    lines.append("rule add pref 200 lookup 100")
    for number, (selector, action) in enumerate(rules):
        lines.append(f"rule add pref {100 + number} {selector} {action}")
    # The same route may be drawn twice, and there is nothing to flush in an empty table.
    router.run(ip, check=False, input="\n".join(lines) + "\n")


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
    kind = route.get("type", "unicast")
    return (route["dev"], route.get("gateway")) if kind == "unicast" else kind


def _ask_model(view: StackView, flow: Flow) -> object:
    found: Found | None = view.fib.lookup(flow)
    if found is not None and found.route.type == "local":
        return "local" if check_source(view, flow.iif, flow, None) is None else _INVALID
    if found is None:
        return _UNREACHABLE
    if found.refusal is not None:
        return _refusal(found)
    if check_source(view, flow.iif, flow, found.link) is not None:
        return _INVALID
    return found.link, found.gateway


def _refusal(found: Found) -> str:
    """What the kernel says of a hole; of one in a rule otherwise (fib4_rule_action)."""
    unreachable = _UNREACHABLE if found.ref.text.startswith("ip rule") else "No route to host"
    refusals = {"unreachable": unreachable, "prohibit": "Permission denied"}
    return refusals.get(found.refusal or "", _INVALID)


_SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _compare(router, plan: Plan, routes, rules, questions) -> None:
    _rebuild(router, plan, routes, rules)
    with entered(router.path):
        view = StackView(read_stack("router", "host", router.path).stack)
    flows = [
        Flow(
            dst=ip_address(dst),
            src=ip_address(src),
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


@given(
    routes=_routes(_FOUR),
    rules=_rules(_FOUR),
    questions=_questions(_FOUR),
    filters=st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2]), st.booleans()),
)
@_SETTINGS
def test_the_walk_routes_as_the_kernel_does(router, routes, rules, questions, filters):
    """Longest prefix, metric, tables, policy rules, refusals and the reverse path filter."""
    for name, value in zip(("all", "a0"), filters, strict=False):
        router.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
    router.sysctl("net.ipv4.conf.all.src_valid_mark", int(filters[2]))
    _compare(router, _FOUR, routes, rules, questions)


@given(routes=_routes(_SIX), rules=_rules(_SIX), questions=_questions(_SIX))
@_SETTINGS
def test_ipv6_is_routed_as_the_kernel_does(router, routes, rules, questions):
    """The same without a reverse path filter, and with routes for some sources only."""
    _compare(router, _SIX, routes, rules, questions)


def test_one_network_on_two_links(router):
    """IPv4 takes the first route; IPv6 rather that by which the packet came in."""
    router.ip("addr add fd01::42/64 dev b0 nodad", "addr add 10.1.0.42/24 dev b0")
    with entered(router.path):
        view = StackView(read_stack("router", "host", router.path).stack)
    ends = (("10.1.0.9", "10.2.0.9"), ("fd01::9", "fd02::9"))
    flows = [
        Flow(dst=ip_address(dst), src=ip_address(src), iif=iif, proto="udp", sport=5000, dport=53)
        for dst, src in ends
        for iif in ("a0", "b0", "c0")
    ]
    kernel = _ask_kernel(router, flows)
    assert kernel == [_ask_model(view, flow) for flow in flows]
    assert kernel[3:] == [("a0", None), ("b0", None), ("a0", None)]
