"""Draws what is set in a stack: sysctls, odd routes and policy rules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from differential.sketch import NETWORKS, Sketch, one_in

Draw = Any


def settings(draw: Draw, sketch: Sketch, name: str) -> None:
    """Sysctls, odd routes and policy rules."""
    stack = sketch.stacks[name]
    links = [d.name for d in (*stack.bridges, *stack.links) if d.address]
    if name == "host":
        _host_settings(draw, sketch, links)
    if draw(one_in(4)):
        filters = st.tuples(st.sampled_from(["all", *links]), st.sampled_from([1, 1, 2]))
        for link, value in draw(st.lists(filters, min_size=1, max_size=2)):
            sketch.stack(name, sysctls=((f"net.ipv4.conf.{link}.rp_filter", value),))
    if draw(one_in(8)):
        keys = [
            "arp_ignore",
            "arp_filter",
            "proxy_arp",
            "accept_local",
            "arp_announce",
            "src_valid_mark",
            "route_localnet",
        ]
        key, value = draw(st.sampled_from(keys)), draw(st.sampled_from([1, 1, 2]))
        where = draw(st.sampled_from(["all", *links]))
        sketch.stack(name, sysctls=((f"net.ipv4.conf.{where}.{key}", value),))
    if draw(one_in(8)):
        _odd_route(draw, sketch, name)
    if draw(one_in(6)):
        _policy(draw, sketch, name, links)
    if draw(one_in(12)) and links:
        extra = draw(st.sampled_from(["192.0.2.77/32", "10.0.1.66/24", "10.0.2.66/25"]))
        sketch.stack(name, extra=(f"addr add {extra} dev {draw(st.sampled_from(links))}",))


def _host_settings(draw: Draw, sketch: Sketch, links: list[str]) -> None:
    sysctls: list[tuple[str, int]] = [("net.ipv4.ip_forward", int(not draw(one_in(10))))]
    sysctls.append(("net.bridge.bridge-nf-call-iptables", int(draw(st.booleans()))))
    if draw(one_in(6)) and links:
        link = draw(st.sampled_from(links))
        sysctls.append((f"net.ipv4.conf.{link}.forwarding", draw(st.integers(0, 1))))
    if draw(one_in(15)):
        sysctls.append(("net.ipv4.icmp_echo_ignore_all", 1))
    sketch.stack("host", sysctls=tuple(sysctls))


def _odd_route(draw: Draw, sketch: Sketch, name: str) -> None:
    kind = draw(
        st.sampled_from(["blackhole", "unreachable", "prohibit", "throw", "device", "device"])
    )
    network = draw(st.sampled_from(NETWORKS))
    if kind == "device":
        stack = sketch.stacks[name]
        link = draw(st.sampled_from([d.name for d in (*stack.bridges, *stack.links)]))
        sketch.stack(name, routes=(f"{network} dev {link} metric 5",))
    else:
        sketch.stack(name, routes=(f"{kind} {network} metric 5",))


def _policy(draw: Draw, sketch: Sketch, name: str, links: list[str]) -> None:
    selector = draw(
        st.sampled_from(
            [
                f"from {draw(st.sampled_from(NETWORKS))}",
                f"to {draw(st.sampled_from(NETWORKS))}",
                "fwmark 7",
                "fwmark 0x10/0xf0",
                "ipproto tcp",
                "ipproto udp dport 53",
                "iif lo",
                f"iif {draw(st.sampled_from(links or ['lo']))}",
                f"not from {draw(st.sampled_from(NETWORKS))}",
            ]
        )
    )
    action = draw(
        st.sampled_from(
            [
                "lookup 100",
                "lookup 100",
                "lookup 100",
                "prohibit",
                "blackhole",
                "lookup main suppress_prefixlength 0",
            ]
        )
    )
    sketch.stack(name, rules=(f"pref {draw(st.sampled_from([100, 200]))} {selector} {action}",))
    for _ in range(draw(st.integers(1, 2))):
        gateways = [
            route.split()[2]
            for route in sketch.stacks[name].routes
            if " via " in route and "table" not in route
        ]
        choices = [
            f"{kind} {draw(st.sampled_from(NETWORKS))} metric {draw(st.integers(1, 3))}"
            for kind in ("blackhole", "unreachable", "throw")
        ]
        choices += [
            f"default via {gateway} metric {draw(st.integers(1, 3))}" for gateway in gateways
        ]
        choices += [f"{draw(st.sampled_from(NETWORKS))} dev {link} metric 4" for link in links]
        sketch.stack(name, routes=(f"{draw(st.sampled_from(choices))} table 100",))
