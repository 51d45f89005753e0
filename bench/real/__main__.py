"""What names the fault of a real libvirt host: kvmdiag, virt-host-validate or usual commands.

    sudo .venv/bin/python bench/real [--write]

Every fault of the practice networks libvirt-nat and neighbours, with real guests, is put in, and
each is asked: ``kvmdiag check``, ``virt-host-validate``, and a script of what people type
(usual.sh). kvmdiag has named a fault when its check is the one cause. The others have when a
line appears that was not there before and is about the fault, by the words below; all new lines
are kept in the results. With ``--write`` they go to bench/results/real.json.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvmdiag.lab import manager, real_daemon
from kvmdiag.lab.real_networks import REAL_NETWORKS
from kvmdiag.lab.spec import namespace
from kvmdiag.model.stack import NAMED_NETNS

sys.path.append(str(Path(__file__).parent.parent))  # what all measurements share
from machine import machine, now

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "real.json"
NETWORKS = ("libvirt-nat", "neighbours")
OUTSIDE = "10.0.0.9"
# Where a ping to the outside does not meet the fault.
QUESTIONS = {
    "duplicate-mac": ("web", "192.168.122.88"),
    "host-input-fw-blocks-dhcp-dns": ("web", "192.168.122.1", "--proto", "udp", "--port", "53"),
}
# A line that has one of these words is about the fault.
WORDS = {
    "net-restart-orphan-taps": ("no bridge",),
    "libvirt-net-inactive": ("not active",),
    "dnsmasq-dead": ("serves DHCP", "dnsmasq"),
    "dnsmasq-port-conflict": ("port 53",),
    "fw-flush-lost-libvirt-rules": ("translated", "masquerade"),
    "ip-forward-off": ("ip_forward", "forwarding"),
    "guest-link-state-down": ("the link of",),
    "guest-paused-tap-drops": ("does not run", "paused"),
    "duplicate-mac": ("MAC address",),
    "nwfilter-wrong-ip": ("filter",),
    "docker-forward-drop-vs-libvirt-nft": ("FORWARD",),
    "docker-user-half-fixed": ("FORWARD",),
    "firewalld-libvirt-zone": ("zone",),
    "host-input-fw-blocks-dhcp-dns": ("INPUT",),
    "vpn-killswitch-or-full-tunnel": ("wg0", "VPN"),
}
PROGRAMS = {"docker": "dockerd", "firewalld": "firewalld", "host": "ufw"}


def main() -> int:
    """Measure, print, and say whether kvmdiag named all of them."""
    report: dict[str, Any] = {"machine": machine(), "taken_at": now(), "faults": {}}
    for name in NETWORKS:
        label = manager.up(name, label=f"bench{os.getpid()}", real_guests=True)
        try:
            report["faults"].update(_network(name, label))
        finally:
            manager.down(label)
    report["summary"] = _summary(report["faults"])
    print(json.dumps(report, indent=2))
    if "--write" in sys.argv[1:]:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    for asked, found in report["summary"].items():
        print(f"{asked}: {found['named']} of {found['of']} in {found['median_seconds']} s")
    kvmdiag = report["summary"]["kvmdiag check"]
    return 0 if kvmdiag["named"] == kvmdiag["of"] else 1


def _network(name: str, label: str) -> Iterator[tuple[str, Any]]:
    """What each says of each fault of one network."""
    sound = {asked: set(_run(argv)[1]) for asked, argv in _others(label).items()}
    for fault in REAL_NETWORKS[name].namespaces.faults:
        program = PROGRAMS.get(fault.name.partition("-")[0])
        if fault.check is None or (program and shutil.which(program) is None):
            continue
        manager.break_(label, fault.name)
        found = {"kvmdiag check": _kvmdiag(label, fault.name, fault.check)}
        for asked, argv in _others(label).items():
            seconds, lines = _run(argv)
            new = [line for line in lines if line not in sound[asked]]
            named = any(word in line for line in new for word in WORDS[fault.name])
            found[asked] = {"named": named, "seconds": seconds, "new_lines": new}
        manager.mend(label)
        yield fault.name, found


def _kvmdiag(label: str, fault: str, check: str) -> dict[str, Any]:
    question = QUESTIONS.get(fault, ("web", OUTSIDE))
    argv = (sys.executable, "-m", "kvmdiag", "--lab", label, "check", *question)
    seconds, lines = _run((*argv, "--format", "json"))
    report = json.loads("\n".join(lines))
    causes = [found["check"] for found in report["findings"] if found["role"] == "cause"]
    return {"named": causes == [check], "seconds": seconds, "causes": causes}


def _others(label: str) -> dict[str, tuple[str, ...]]:
    beside = real_daemon.beside(label, NAMED_NETNS + namespace(label, "host"))
    return {
        "virt-host-validate": (*beside, "virt-host-validate", "qemu"),
        "usual commands": (*beside, "sh", str(HERE / "usual.sh"), "web"),
    }


def _run(argv: tuple[str, ...]) -> tuple[float, list[str]]:
    """Wall seconds and what was printed."""
    start = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    seconds = round(time.monotonic() - start, 2)
    if "Traceback" in done.stderr or "not found" in done.stderr:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr}")
    return seconds, done.stdout.splitlines()


def _summary(faults: dict[str, Any]) -> dict[str, Any]:
    asked = dict.fromkeys(name for found in faults.values() for name in found)
    return {
        name: {
            "named": sum(found[name]["named"] for found in faults.values()),
            "of": len(faults),
            "median_seconds": round(
                statistics.median(found[name]["seconds"] for found in faults.values()), 2
            ),
        }
        for name in asked
    }


if __name__ == "__main__":
    sys.exit(main())
