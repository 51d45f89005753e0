"""Draws networks that could be somebody's: a host with bridges, guests, routers behind them.

Addresses follow a plan: segment N is 10.0.N.0/24. Everything works at first; then a few
things are turned wrong, and rules are put in the way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from differential.generate_rules import tables
from differential.generate_sets import Names, ipsets
from differential.generate_settings import settings
from differential.plan import PORTS, Ask, Bridge, Case, Link, Stack
from differential.six import six
from differential.sketch import NETWORKS, Sketch, one_in

Draw = Any


@st.composite
def cases(draw: Draw) -> Case:
    """A network with a handful of questions."""
    sketch = Sketch({"host": Stack("host")}, [])
    _bridges(draw, sketch)
    if draw(st.booleans()):
        _upstream(draw, sketch)
    if draw(one_in(3)):
        _guest_router(draw, sketch)
    if draw(one_in(3)):
        _second_leg(draw, sketch)
    if draw(one_in(5)):
        _macvlans(draw, sketch)
    for name in list(sketch.stacks):
        settings(draw, sketch, name)
    _rulesets(draw, sketch)
    for name, stack in sketch.stacks.items():
        sketch.stacks[name] = replace(stack, routes=tuple(dict.fromkeys(stack.routes)))
    asks = _asks(draw, sketch)
    if draw(one_in(8)):
        asks = _sized(draw, sketch, asks)
    case = Case(tuple(sketch.stacks.values()), tuple(sketch.cables), asks)
    return six(case) if not any(ask.size for ask in asks) and draw(one_in(4)) else case


def _bridges(draw: Draw, sketch: Sketch) -> None:
    """One or two bridges in the host, each with guests."""
    for number in range(1, draw(st.integers(1, 2)) + 1):
        has_address = not draw(one_in(5))
        address = f"10.0.{number}.1/24" if has_address else None
        bridge = Bridge(f"br{number}", address, draw(one_in(4)))
        sketch.stack("host", bridges=(bridge,))
        for index in range(1, draw(st.integers(1 if number == 2 else 2, 3)) + 1):
            _guest(draw, sketch, number, index, bridge)


def _guest(draw: Draw, sketch: Sketch, segment: int, index: int, bridge: Bridge) -> None:
    name = f"g{segment}{index}"
    port: tuple[str, ...] = ()
    if draw(one_in(6)):
        port = draw(
            st.sampled_from(
                [
                    ("isolated", "on"),
                    ("hairpin", "on"),
                    ("learning", "off"),
                    ("flood", "off"),
                ]
            )
        )
    own = Link("eth0", f"10.0.{segment}.{index + 1}/24")
    sketch.plug(name, own, "host", Link(f"v{segment}{index}", master=bridge.name, port=port))
    if bridge.address:
        sketch.stack(name, routes=(f"default via 10.0.{segment}.1",))


def _upstream(draw: Draw, sketch: Sketch) -> None:
    """A router beyond the host; sometimes with a network behind it."""
    sketch.plug("x", Link("eth0", "10.0.8.2/24"), "host", Link("up0", "10.0.8.1/24"))
    sketch.stack("host", routes=("default via 10.0.8.2",))
    if not draw(one_in(4)):
        sketch.stack("x", routes=("10.0.0.0/16 via 10.0.8.1",))
    if draw(one_in(2)):
        sketch.stack("x", sysctls=(("net.ipv4.ip_forward", 1),))
        _beyond(draw, sketch)


def _beyond(draw: Draw, sketch: Sketch) -> None:
    """A network behind the router x, or behind one more."""
    last, back = "x", "10.0.9.1"
    if draw(one_in(2)):
        last = "w"
        sketch.plug("w", Link("eth0", "10.0.5.2/24"), "x", Link("down0", "10.0.5.1/24"))
        sketch.stack("w", sysctls=(("net.ipv4.ip_forward", 1),), routes=("default via 10.0.5.1",))
        sketch.stack("x", routes=("10.0.9.0/24 via 10.0.5.2",))
    sketch.stack(last, bridges=(Bridge("br9", f"{back}/24"),))
    sketch.plug("z", Link("eth0", "10.0.9.2/24"), last, Link("vz", master="br9"))
    sketch.stack("z", routes=(f"default via {back}",))


def _guest_router(draw: Draw, sketch: Sketch) -> None:
    """A guest on the first bridge that routes to another network."""
    router = "g11"
    sketch.stack(router, sysctls=(("net.ipv4.ip_forward", 1),))
    if "br2" in {bridge.name for bridge in sketch.stacks["host"].bridges} and draw(st.booleans()):
        sketch.plug(router, Link("eth1", "10.0.2.9/24"), "host", Link("v2r", master="br2"))
        if draw(st.booleans()):
            sketch.stack("g12", routes=("10.0.2.0/24 via 10.0.1.2",))
        if draw(st.booleans()):
            sketch.stack("g21", routes=("10.0.1.0/24 via 10.0.2.9",))
        return
    sketch.plug(router, Link("eth1", "10.0.7.1/24"), "y", Link("eth0", "10.0.7.2/24"))
    sketch.stack("y", routes=("default via 10.0.7.1",))
    if sketch.stacks["host"].bridges[0].address:
        sketch.stack("host", routes=("10.0.7.0/24 via 10.0.1.2",))
    if draw(st.booleans()):
        sketch.stack("g12", routes=("10.0.7.0/24 via 10.0.1.2",))


def _second_leg(draw: Draw, sketch: Sketch) -> None:
    """Another way between two stacks, so that replies may come by another link."""
    bridges = [bridge.name for bridge in sketch.stacks["host"].bridges]
    if "x" in sketch.stacks and draw(st.booleans()):
        sketch.plug("x", Link("eth9", "10.0.6.2/24"), "host", Link("up1", "10.0.6.1/24"))
        route = draw(
            st.sampled_from(
                [
                    "10.0.0.0/16 via 10.0.6.1 metric 1",
                    "10.0.1.0/24 via 10.0.6.1",
                    "10.0.1.2/32 via 10.0.6.1",
                ]
            )
        )
        sketch.stack("x", routes=(route,))
    elif "br2" in bridges:
        sketch.plug("g12", Link("eth1", "10.0.2.8/24"), "host", Link("v2s", master="br2"))


def _macvlans(draw: Draw, sketch: Sketch) -> None:
    """Guests without a bridge, on the host's way out; it cannot itself speak to them."""
    if "x" not in sketch.stacks:
        return
    modes = st.sampled_from(["bridge", "bridge", "vepa", "private"])
    for number in range(1, draw(st.integers(1, 2)) + 1):
        over = ("host", "up0", draw(modes))
        link = Link("eth0", f"10.0.8.{number + 2}/24", over=over)
        route = f"default via 10.0.8.{draw(st.sampled_from([1, 2]))}"
        sketch.stack(f"m{number}", links=(link,), routes=(route,))


def _sized(draw: Draw, sketch: Sketch, asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    """A cable that takes less, and a ping that may be too large for it.

    No more than one: its sender may learn of the smaller MTU, and keep to it from then on.
    """
    cable = draw(st.sampled_from(sketch.cables))
    for name, link in (cable.one, cable.other):
        stack = sketch.stacks[name]
        links = tuple(replace(a, mtu=1400) if a.name == link else a for a in stack.links)
        sketch.stacks[name] = replace(stack, links=links)
    first, *others = asks
    size = draw(st.sampled_from([1300, 1400, 1401, 1404, 1405, 1500, 1501]))
    return (replace(first, proto="icmp", port=None, size=size), *others)


def _rulesets(draw: Draw, sketch: Sketch) -> None:
    """Rules in the host, often; elsewhere, sometimes."""
    everywhere = [address for _, address in sketch.addresses()]
    for name, stack in list(sketch.stacks.items()):
        if not draw(st.sampled_from([True, True, False]) if name == "host" else one_in(5)):
            continue
        names = Names(
            devices=tuple(d.name for d in (*stack.bridges, *stack.links)),
            ports=tuple(link.name for link in stack.links if link.master),
            addresses=tuple(everywhere),
            networks=tuple(NETWORKS[:5]),
            ipsets=draw(one_in(4)),
        )
        if names.ipsets:
            sketch.stack(name, ipsets=ipsets(draw, names))
        sketch.stack(name, tables=draw(tables(names)))


def _asks(draw: Draw, sketch: Sketch) -> tuple[Ask, ...]:
    owned = sketch.addresses()
    targets = [address for _, address in owned]
    targets += ["192.0.2.77", "10.0.1.99"]
    asks = []
    for _ in range(draw(st.integers(6, 12))):
        source = draw(st.sampled_from(sorted({name for name, _ in owned})))
        proto = draw(st.sampled_from(["icmp", "icmp", "tcp", "udp"]))
        port = None if proto == "icmp" else draw(st.sampled_from(PORTS))
        bound = None
        own = [address for name, address in owned if name == source]
        if own and draw(one_in(8)):
            bound = draw(st.sampled_from(own))
        asks.append(Ask(source, draw(st.sampled_from(targets)), proto, port, bound))
    return tuple(asks)
