"""How long ``check`` over all intended paths takes on a host with many guests.

    sudo python -m bench.scale [GUESTS] [--write]

Builds a host with so many guests (200) in real network namespaces on one libvirt network, with
libvirt's default rules and a real dnsmasq; reads it and judges it; then the
same with forwarding off, and with the masquerading gone. Reading is timed apart from judging.
With ``--write`` the figures are kept in bench/results/scale.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import builder, libvirt_rules, manager
from kvmdiag.lab.spec import Link, Machine, Network, Rules, Step, Sysctls, namespace
from kvmdiag.simulate.facts.unseen import assume_guests

RESULTS = Path(__file__).parent.parent / "results" / "scale.json"
LIMIT = 10.0
_NAT = libvirt_rules.NatNetwork("virbr0", "192.168.0.0/16")
_XML = (
    "<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>"
    "<ip address='192.168.0.1' netmask='255.255.0.0'>"
    "<dhcp><range start='192.168.200.1' end='192.168.200.99'/></dhcp></ip></network>"
)
_SERVER = (
    "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-dynamic"
    " --user=root --interface=virbr0 --except-interface=lo --listen-address=192.168.0.1"
    " --dhcp-range=192.168.200.1,192.168.200.99,1h --pid-file= --dhcp-leasefile=/dev/null"
)
_FAULTS: dict[str, tuple[Step, ...]] = {
    "healthy": (),
    "forwarding off": (Sysctls("host", {"net.ipv4.ip_forward": "0"}),),
    "masquerading gone": (Rules("host", libvirt_rules.without_masquerade(_NAT)),),
}


def main() -> None:
    """Build, measure, tell."""
    words = [word for word in sys.argv[1:] if word != "--write"]
    guests = int(words[0]) if words else 200
    figures: dict[str, Any] = {"guests": guests}
    with standing(guests) as (network, label):
        for name, steps in _FAULTS.items():
            builder.carry_out(steps, network, label)
            figures[name] = measured(label)
            print(name, json.dumps(figures[name]), flush=True)
            manager.mend(label)
    slowest = max(figures[name]["total_seconds"] for name in _FAULTS)
    print(f"slowest {slowest:g} s, limit {LIMIT:g} s")
    if "--write" in sys.argv:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(slowest > LIMIT)


def measured(label: str) -> dict[str, Any]:
    """Read and judge once. On a busy machine the seconds of CPU are those to compare."""
    began, cpu_began = time.monotonic(), _cpu()
    snapshot = assume_guests(collect(manager.scope(label)))
    read, cpu_read = time.monotonic(), _cpu()
    report = diagnose(snapshot, load_checks())
    done, cpu_done = time.monotonic(), _cpu()
    return {
        "read_seconds": round(read - began, 2),
        "read_cpu_seconds": round(cpu_read - cpu_began, 2),
        "judge_seconds": round(done - read, 2),
        "judge_cpu_seconds": round(cpu_done - cpu_read, 2),
        "total_seconds": round(done - began, 2),
        "paths": len(report.paths),
        "verdict": report.verdict,
        "findings": [finding.check for finding in report.findings],
    }


def _cpu() -> float:
    """Seconds of CPU so far, those of programs that were run and are done included."""
    return sum(os.times()[:4])


@contextlib.contextmanager
def standing(guests: int) -> Iterator[tuple[Network, str]]:
    """The network, with its server, for as long as it is measured."""
    network = _network(guests)
    label = f"scale{os.getpid()}"
    manager.networks = lambda: {network.name: network}  # type: ignore[attr-defined]
    manager.up(network.name, label=label)
    inside = ("ip", "netns", "exec", namespace(label, "host"))
    server = subprocess.Popen([*inside, *_SERVER.split()])
    try:
        yield network, label
    finally:
        server.kill()
        server.wait()
        manager.down(label)


def _network(guests: int) -> Network:
    taps = []
    machines = []
    for number in range(1, guests + 1):
        name = f"vm{number}"
        mac = f"54:00:aa:{number >> 8:02x}:{number & 255:02x}"
        taps.append(
            Link(name=f"vnet{number}", mac=f"fe:{mac}", master="virbr0", peer=f"{name}:eth0")
        )
        address = f"192.168.{1 + (number >> 7)}.{1 + (number & 127)}/16"
        machines.append(
            Machine(
                name=name,
                links=(Link(name="eth0", mac=f"52:{mac}", addresses=(address,)),),
                routes=("default via 192.168.0.1 dev eth0",),
            )
        )
    eno1 = Link(
        name="eno1", mac="52:54:00:10:00:10", addresses=("10.0.0.10/24",), peer="outside:lan"
    )
    virbr0 = Link(
        name="virbr0", kind="bridge", mac="52:54:00:1e:07:10", addresses=("192.168.0.1/16",)
    )
    host = Machine(
        name="host",
        links=(eno1, virbr0, *taps),
        routes=("default via 10.0.0.1 dev eno1",),
        sysctls={"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"},
        rules=libvirt_rules.chains() + libvirt_rules.network_rules(_NAT),
    )
    lan = Link(name="lan", mac="52:54:00:10:00:01", addresses=("10.0.0.1/24",))
    return Network(
        name="scale",
        summary="a host with many guests",
        example="vm1 10.0.0.1",
        machines=(host, *machines, Machine(name="outside", links=(lan,))),
        faults=(),
        virtual={"default": _XML},
    )


if __name__ == "__main__":
    main()
