"""Healthy networks full of decoys: no error, no warning, and the kernel says so too."""

import json
import os
import shlex
import subprocess

import pytest

from kvmdiag.commands import main as entry
from kvmdiag.lab import manager, real_daemon
from kvmdiag.lab.spec import namespace

from .healthy import cases

pytestmark = pytest.mark.kernel


def inside(label, machine, command):
    """The words that run a command in a machine."""
    return ["ip", "netns", "exec", namespace(label, machine), *shlex.split(command)]


def answered(label, end, address):
    """Whether a real ping is answered; ``end`` is a machine or one of its NICs."""
    machine, _, nic = end.partition(":")
    bound = f"-I {nic}" if nic else ""
    ping = inside(label, machine, f"ping -n -c1 -W1 {bound} {address}")
    return subprocess.run(ping, capture_output=True, check=False, timeout=20).returncode == 0


def serves(label, machine):
    """Whether DNS and DHCP are heard there: ports 53 and 67 of UDP are bound."""
    shown = subprocess.run(
        inside(label, machine, "cat /proc/net/udp"), capture_output=True, text=True, check=True
    ).stdout
    return all(f":{port:04X} 00000000:0000" in shown for port in (53, 67))


@pytest.fixture
def standing(request, monkeypatch, eventually):
    """The network of a case, with its decoys and its services, under a label of its own."""
    case = request.param
    label = f"healthy{os.getpid()}-{case.name}"[:40]
    known = {case.name: case.network}
    monkeypatch.setattr(manager, "networks", lambda: known)
    services = []
    manager.up(case.name, label=label)
    try:
        for machine, command in case.services:
            services.append(subprocess.Popen(inside(label, machine, command)))
        if case.decoys:
            manager.break_(label, "decoys")
        for machine, command in case.commands:
            subprocess.run(inside(label, machine, command), check=True, timeout=20)
        for name, text in case.domains.items():
            folder = real_daemon.folder(label) / "etc" / "qemu"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.xml").write_text(text)
        for machine, _ in case.services:
            eventually(lambda m=machine: serves(label, m), "dnsmasq does not serve", seconds=20)
        for machine, address in case.pings:
            eventually(
                lambda m=machine, a=address: answered(label, m, a),
                f"{machine} does not reach {address}: the network is not healthy",
                seconds=20,
            )
        yield label, case
    finally:
        for service in services:
            service.kill()
            service.wait(timeout=10)
        manager.down(label)


@pytest.mark.parametrize("standing", cases(), ids=lambda case: case.name, indirect=True)
def test_a_healthy_network_is_told_to_be_healthy(standing, tmp_path, eventually):
    """``check`` exits with 0, names no fault, and each path it calls working does work."""
    label, case = standing
    file = tmp_path / "report.json"
    words = ["--lab", label, "check", "--fail-on", "warning", "--format", "json"]
    code = entry.main([*words, "-o", str(file)])
    told = json.loads(file.read_text())
    assert [f for f in told["findings"] if f["severity"] != "info"] == []
    assert [p for p in told["paths"] if p["works"] is not True] == []
    assert (told["verdict"], code, told["skipped"]) == ("healthy", 0, [])
    asked = [p["question"] for p in told["paths"]]
    assert asked
    for question in asked:
        if question["proto"] == "icmp":
            eventually(
                lambda q=question: answered(label, q["from"], q["to"]),
                f"said to work, and does not: {question}",
                seconds=20,
            )
    for machine, address in case.silent:
        assert not answered(label, machine, address), "what is meant to be closed is open"


def test_there_are_more_than_ten():
    """Of every family some."""
    assert len(cases()) >= 16
