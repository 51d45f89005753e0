"""Everything that reads what others wrote, with inputs to start from and what must hold.

A target takes text. It may refuse it, by the error its documentation names; anything else that
is raised is a bug, and so is a result that cannot be saved.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mutations import mutated

from kvmdiag.collect.flows.lines import find_lines
from kvmdiag.collect.guest import bridging as guest_bridging
from kvmdiag.collect.guest import iproute as guest_iproute
from kvmdiag.collect.guest import links as guest_links
from kvmdiag.collect.guest import proc as guest_proc
from kvmdiag.collect.guest import rules as guest_rules
from kvmdiag.collect.guest.agent import Agent, AgentError, AgentNic
from kvmdiag.collect.libvirt import qemu_processes
from kvmdiag.collect.libvirt import xml as libvirt_xml
from kvmdiag.errors import InputError, NotReadableError
from kvmdiag.model.codec import encoded, load, save
from kvmdiag.parse import ebtables, ipset, iptables, nft
from kvmdiag.parse.errors import ParseError

_SEEDS = Path(__file__).parent / "seeds"
# What the agent's parsers may raise by their own account.
_GUEST = (ValueError, LookupError, TypeError)
_SALT = (
    *'"\\\'{}[]<>&:;,=!-_*+@$%#/ \n\t\0\x1b\u202e\ud800é',
    "-1", "0", "9" * 30, "0x", "::", "/33", "10.0.0.0/8", "-A", "-j", "-m", "! ", "COMMIT", "*nat",
    "null", "true", "1e999", "\r\n", "a" * 3000, "[" * 3000, "<a>" * 300, "<![CDATA[", "&lol;",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A parser: where its inputs come from, how it is called, and how it may refuse."""

    seeds: tuple[str, ...]
    run: Callable[[str], object]
    refusals: tuple[type[Exception], ...]
    is_json: bool = False

    def check(self, text: str) -> None:
        """Parse the text; raises what the parser must not raise."""
        try:
            result = self.run(text)
        except self.refusals:
            return
        encoded(result)

    def variant(self, random: Random) -> str:
        """One of the seeds, changed at a few places."""
        text = random.choice(self.seeds)
        if self.is_json and random.random() < 0.7:
            return json.dumps(mutated(json.loads(text), random, changes=random.randint(1, 6)))
        return mangled(text, random)


def mangled(text: str, random: Random) -> str:
    """Text with lines and characters taken out, doubled, exchanged and put in."""
    for _ in range(random.randint(1, 6)):
        size = random.choice((1, 1, 4, 30))
        at = random.randrange(len(text) + 1)
        other = random.randrange(len(text) + 1)
        piece = random.choice((random.choice(_SALT), text[other : other + size], ""))
        text = text[:at] + piece + text[at + random.choice((0, size)) :]
    return text


def _iptables(text: str, family: Any) -> object:
    tables = iptables.parse_save(text, family=family, backend="iptables-nft")
    # No rule gets lost, and none is without meaning.
    rules = [rule for table in tables for chain in table.chains for rule in chain.rules]
    assert len(rules) == sum("-A " in line[:99] for line in text.splitlines() if _is_rule(line))
    assert all(rule.body and rule.text for rule in rules)
    return tables


def _is_rule(line: str) -> bool:
    return line.startswith("-A ") or (line.startswith("[") and "] -A " in line)


def _snapshot(text: str) -> object:
    # Latin-1 keeps every byte a fuzzer may come up with.
    snapshot = load(text.encode("latin-1", "replace"))
    assert load(save(snapshot)) == load(save(load(save(snapshot))))
    return snapshot


def _unpacked_snapshot(text: str) -> object:
    """What is inside a file: a fuzzer seldom finds a checksum that fits."""
    data = gzip.compress(text.encode("utf-8", "surrogatepass"), compresslevel=1)
    return _snapshot(data.decode("latin-1"))


def _proc(text: str) -> Iterable[object]:
    content = guest_proc.files(text)
    for parse in (guest_proc.sysctls, lambda c: guest_proc.routes(c, ()), guest_proc.neighbours):
        try:
            yield parse(content)
        except _GUEST:
            continue


def _sys(text: str) -> object:
    """Links by files: the agent tells the name, and the files of that name are the guest's."""
    content = {f"/sys/class/net/{path}": said for path, said in guest_proc.files(text).items()}
    names = sorted({path.split("/")[4] for path in content if path.count("/") > 4})
    return guest_links.links([AgentNic(name=name) for name in names], content, "node1")


def _agent(text: str) -> object:
    """Whatever an agent is asked, it says this."""
    results: list[object] = []
    asked: tuple[Callable[[Agent], object], ...] = (
        Agent.info,
        Agent.nics,
        lambda agent: agent.start("/usr/sbin/ip", ("link",)),
        lambda agent: agent.result(1),
        lambda agent: agent.read("/proc/net/route"),
    )
    for ask in asked:
        # It never says that a program has ended: that is not waited for.
        agent = Agent(lambda _command, _seconds: text, time.monotonic() + 0.001)
        try:
            results.append(ask(agent))
        except AgentError:
            continue
    return results


def _several(*parsers: Callable[[str], object]) -> Callable[[str], object]:
    """Each of them on its own; a refusal by one is none by the others."""

    def run(text: str) -> object:
        results = []
        for parse in parsers:
            try:
                results.append(parse(text))
            except _GUEST:
                continue
        return results

    return run


def _seeds(*names: str) -> tuple[str, ...]:
    return tuple((_SEEDS / name).read_text() for name in names)


TARGETS = {
    "iptables": Target(_seeds("iptables"), lambda t: _iptables(t, "ip"), (ParseError,)),
    "ip6tables": Target(_seeds("iptables"), lambda t: _iptables(t, "ip6"), (ParseError,)),
    "ebtables": Target(_seeds("ebtables"), ebtables.parse_save, (ParseError,)),
    "ipset": Target(_seeds("ipset"), ipset.parse_ipsets, (ParseError,)),
    "nft": Target(_seeds("nft", "nft2"), nft.parse_ruleset, (ParseError,), True),
    "domain-xml": Target(
        _seeds("domain-xml"), lambda t: libvirt_xml.parse_domain(t, "running"), (ValueError,)
    ),
    "network-xml": Target(
        _seeds("network-xml"),
        lambda t: libvirt_xml.parse_network(t, active=True, autostart=False),
        (ValueError,),
    ),
    "filter-xml": Target(_seeds("filter-xml"), libvirt_xml.parse_filter, (ValueError,)),
    "qemu": Target(
        (
            "-name guest=a,debug-threads=on -netdev tap,fd=33,id=n0 -device virtio-net,netdev=n0",
            '-netdev {"type":"tap","fd":"33","id":"n0"} -device {"driver":"e1000","netdev":"n0"}',
        ),
        lambda t: qemu_processes.parse_command(t.split(" "), lambda _fd: "vnet0"),
        (),
    ),
    "agent": Target(_seeds("agent1", "agent2"), _agent, (), True),
    "agent-link": Target(
        _seeds("agent-link"), lambda t: guest_iproute.links(t, "node1"), _GUEST, True
    ),
    "agent-addr": Target(_seeds("agent-addr"), guest_iproute.addresses, _GUEST, True),
    "agent-route": Target(
        _seeds("agent-route"), lambda t: guest_iproute.routes(t, 4, {}), _GUEST, True
    ),
    "agent-rule": Target(
        _seeds("agent-rule"), lambda t: guest_rules.policy_rules(t, 4), _GUEST, True
    ),
    "agent-neigh": Target(_seeds("agent-neigh"), guest_iproute.neighbours, _GUEST, True),
    "agent-fdb": Target(
        _seeds("agent-fdb"),
        _several(guest_bridging.fdb, guest_bridging.tunnels),
        _GUEST,
        True,
    ),
    "agent-bridging": Target(
        _seeds("agent-bridging"),
        _several(guest_bridging.nexthops, guest_bridging.bridge_vlans, guest_bridging.mdb),
        _GUEST,
        True,
    ),
    "agent-sys": Target(_seeds("agent-sys"), _sys, _GUEST),
    "agent-conntrack": Target(
        _seeds("agent-conntrack"),
        lambda t: tuple(find_lines(t.splitlines(), ("192.0.2.2", "198.51.100.9", "2001:db8::1"))),
        (NotReadableError,),
    ),
    "agent-proc": Target(_seeds("agent-proc"), lambda t: tuple(_proc(t)), ()),
    "agent-resolver": Target(
        ("search a.example b\nnameserver 10.0.0.1\noptions ndots:5\n",),
        guest_proc.resolver,
        _GUEST,
    ),
}


def snapshot_targets(files: Sequence[bytes]) -> dict[str, Target]:
    """Loading of snapshot files, from real ones: as they are, and by what is inside."""
    packed = tuple(data.decode("latin-1") for data in files)
    inside = tuple(gzip.decompress(data).decode() for data in files)
    return {
        "snapshot": Target(packed, _snapshot, (InputError,)),
        "snapshot-json": Target(inside, _unpacked_snapshot, (InputError,), True),
    }
