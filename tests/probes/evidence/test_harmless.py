"""Gathering evidence disturbs nobody and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import pickle
import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kvmdiag.model.trace import Stage
from kvmdiag.probes.evidence.gather import gathering
from kvmdiag.probes.evidence.nft_trace import NftTrace
from kvmdiag.probes.packet import new_probe
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk
from kvmdiag.system.namespaces import entered

from ..killed import victims  # noqa: TID252 - a helper of the neighbouring tests

OTHER_SIDE = "198.51.100.2"
SHOWN = (Stage.INGRESS, Stage.EGRESS)
TRACE = """
import pickle, sys
from pathlib import Path
from kvmdiag.probes import trace
snapshot, walk = (pickle.loads(Path(name).read_bytes()) for name in sys.argv[1:])
trace.observe(snapshot, walk, timeout=1)

def victim(_):
    while True:
        trace.observe(snapshot, walk, timeout=1)
"""
COMMANDS = (
    "ip -o link",
    "nft -s list ruleset",
    "tc qdisc",
    "ip rule",
    "ip route",
    "cat /proc/net/ip_tables_names",
    "cat /proc/net/netfilter/nfnetlink_log",
)
SETTINGS = "net.netfilter net.ipv4.conf net.ipv4.ip_forward net.bridge"


def state(namespace: Any) -> dict[str, str]:
    """All that a trace could leave in a namespace: links, rules, qdiscs, sysctls, sockets."""
    found = {command: namespace.run(command, check=False).stdout for command in COMMANDS}
    settings = namespace.run(f"sysctl {SETTINGS}", check=False).stdout.splitlines()
    found["sysctl"] = "\n".join(line for line in settings if "conntrack_count" not in line)
    details = namespace.run("ip -d -o link").stdout
    found["promiscuity"] = str(re.findall(r"promiscuity \d+", details))
    found["sockets"] = namespace.run("cat /proc/net/packet").stdout.split("\n", 1)[1]
    return found


def descendants(session_of: str) -> list[str]:
    """Processes whose command line bears the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                inside = os.stat(entry / "ns/net").st_ino
            except OSError:
                continue
            if str(inside) == session_of and "nfnetlink_log" in line:
                found.append(line)
    return found


@pytest.fixture
def question(routed: Any, before: Any) -> Callable[[], Any]:
    """The walk to the other side, of the facts as they are."""

    def ask() -> Any:
        snapshot = before(routed)
        return snapshot, walk(snapshot, resolve(snapshot, "a", OTHER_SIDE))

    return ask


def test_own_tables_do_not_switch_conntrack_on(namespaces: Any) -> None:
    """Only NAT and ct do; a namespace that tracks no connections goes on so."""
    one, other = namespaces("one"), namespaces("other")
    one.cable("x", other, "y")
    one.ip("link set x up", "addr add 192.0.2.1/24 dev x")
    other.ip("link set y up", "addr add 192.0.2.2/24 dev y")
    count = "cat /proc/sys/net/netfilter/nf_conntrack_count"
    asked = pickle.loads(pickle.dumps(_plain_question()))
    with entered(one.path):
        trace = NftTrace((new_probe(asked),))
    try:
        assert one.run("nft list tables").stdout.count("kvmdiag-") == 2
        assert one.run("ping -c2 -i0.1 -W1 192.0.2.2").returncode == 0
        assert one.run(count).stdout.strip() == "0"
    finally:
        trace.close()
    one.run("nft add table inet t")
    one.run(["nft", "add chain inet t in { type filter hook input priority 0; }"])
    one.run("nft add rule inet t in ct state established accept")
    assert one.run("ping -c2 -i0.1 -W1 192.0.2.2").returncode == 0
    assert one.run(count).stdout.strip() == "1"  # this is how it would have shown


def _plain_question() -> Any:
    from kvmdiag.model.question import Endpoint, Question

    return Question(
        source=Endpoint(text="one"), destination=Endpoint(text="192.0.2.2", address="192.0.2.2")
    )


def test_own_tables_are_nobody_elses(namespaces: Any) -> None:
    """Who flushes the ruleset does not hit them, and they are gone with their socket."""
    one = namespaces("one")
    one.run("nft add table ip mine")
    with entered(one.path):
        trace = NftTrace((new_probe(_plain_question()),))
    one.run("nft flush ruleset")
    assert one.run("nft list tables").stdout.count("kvmdiag-") == 2
    trace.close()
    assert one.run("nft list tables").stdout == ""


def test_kill_9_at_ten_moments(routed: Any, question: Any, tmp_path: Path, eventually: Any) -> None:
    """No rule, table, sysctl, socket, promiscuity or process is left, legacy tables and all."""
    for tables in ("iptables-nft", "iptables-legacy"):
        routed["r"].run(f"{tables} -A FORWARD -o rb -p icmp -j DROP")
    before = {name: state(routed[name]) for name in routed.members}
    inode = str(os.stat(routed["r"].path).st_ino)
    files = tmp_path / "snapshot", tmp_path / "walk"
    for file, content in zip(files, question(), strict=True):
        file.write_bytes(pickle.dumps(content))
    moments = random.Random(8)
    caught = 0
    with victims(TRACE, *map(str, files)) as start:
        for _ in range(10):
            tracing = start("again and again")
            eventually(
                lambda: "kvmdiag-" in routed["r"].run("nft list tables").stdout,
                "it never traced",
                seconds=20,
            )
            time.sleep(moments.uniform(0, 0.4))
            caught += "kvmdiag-" in routed["r"].run("nft list tables").stdout
            assert tracing.kill() == -9
            eventually(lambda: not descendants(inode), "the keeper of the sysctl still runs")
    assert caught > 2  # it was killed in the middle of something
    _until_as_before(routed, before)


def _until_as_before(net: Any, before: dict[str, dict[str, str]]) -> None:
    end = time.monotonic() + 5
    while True:
        after = {name: state(net[name]) for name in net.members}
        if after == before:
            return
        if time.monotonic() > end:
            changed = {
                (name, what): (text, before[name][what])
                for name, found in after.items()
                for what, text in found.items()
                if text != before[name][what]
            }
            assert changed == {}


def test_traces_side_by_side(routed: Any, question: Any) -> None:
    """Each sees its own probe, whole and nothing else."""
    from kvmdiag.probes.trace import observe

    routed["r"].run("iptables-nft -A FORWARD -p icmp -j ACCEPT")
    snapshot, predicted = question()
    alone = [(v.direction, v.rule) for v in observe(snapshot, predicted).evidence.verdicts]
    assert len(alone) == 3
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: observe(snapshot, predicted), range(4)))
    for seen in several:
        assert seen.reached
        assert seen.evidence is not None
        assert [(v.direction, v.rule) for v in seen.evidence.verdicts] == alone
        assert seen.evidence.unavailable == ()


def test_who_reads_the_rules_meanwhile(routed: Any, question: Any) -> None:
    """Finds tables more, and judges as before: they let everything pass."""
    routed["r"].run("iptables-nft -A FORWARD -p icmp -j ACCEPT")
    snapshot, predicted = question()
    with gathering(snapshot, predicted, (new_probe(predicted.question),)):
        meanwhile, again = question()
    names = {table.name for table in meanwhile.stack("host").tables}
    assert any(name.startswith("kvmdiag-") for name in names)
    assert again.works is predicted.works is True
    shown = [[h.place for h in way.hops if h.stage in SHOWN] for way in (again, predicted)]
    assert shown[0] == shown[1]


def test_without_the_rights_it_says_what_is_missing(
    routed: Any, question: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that refuses BPF and owned tables: told, and the rest goes on."""
    from kvmdiag.probes.evidence import drops, stack_watch
    from kvmdiag.probes.trace import observe

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(drops, "Ring", refuse)
    monkeypatch.setattr(stack_watch, "NftTrace", refuse)
    routed["r"].run("iptables-nft -A FORWARD -p icmp -j ACCEPT")
    snapshot, predicted = question()
    seen = observe(snapshot, predicted)
    assert seen.reached
    assert seen.evidence is not None
    missed = {(one.source, one.stack) for one in seen.evidence.unavailable}
    assert ("BPF", None) in missed
    assert ("rule verdicts", "host") in missed
    assert any(one.rule for one in seen.evidence.changes)
