"""``kvmdiag trace`` on a practice network of its own: every form of it, and its exit codes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager

pytestmark = pytest.mark.kernel

OUTSIDE = "10.0.0.9"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def broken(cluster: str) -> Iterator[str]:
    """The cluster with a host that does not forward; sound again afterwards."""
    manager.break_(cluster, "ip-forward-off@host")
    try:
        yield cluster
    finally:
        manager.mend(cluster)


@pytest.fixture
def trace(cluster: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``kvmdiag trace``: exit code, and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["--lab", cluster, "trace", *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def told(text: str) -> Any:
    """The JSON object that was printed."""
    return json.loads(text)


def test_a_path_that_works(trace: Run) -> None:
    """Exit code 0, each predicted link seen."""
    code, text = trace("node1", OUTSIDE, "--format", "json")
    assert code == 0
    found = told(text)
    assert found["probe"]["reached"]
    assert not [hop for hop in found["hops"] if hop["seen"] is False]


def test_a_path_that_does_not(broken: str, trace: Run) -> None:
    """Exit code 1; the place where it was lost."""
    assert broken
    code, text = trace("node1", OUTSIDE, "--format", "json")
    assert code == 1
    assert told(text)["dropped_at"]["stack"] == "host"


def test_on_the_tap(trace: Run) -> None:
    """Marked clearly as not from inside; what node1 itself does is not claimed to be seen."""
    code, text = trace("node1", OUTSIDE, "--on-tap")
    assert code == 0
    assert "as if node1 had sent it" in " ".join(text.split())
    _, text = trace("node1", OUTSIDE, "--on-tap", "--format", "json")
    first = told(text)["hops"][0]
    assert (first["stack"], first["seen"]) == ("node1", None)


def test_ports(trace: Run) -> None:
    """Nobody listens: the reset, and the word of the machine itself, are told."""
    code, text = trace("node1", OUTSIDE, "--tcp", "81")
    assert (code, "reset" in text) == (1, True)
    code, text = trace("node1", OUTSIDE, "--udp", "81")
    assert (code, "nobody listens on that port" in " ".join(text.split())) == (1, True)


def test_the_path_mtu(trace: Run) -> None:
    """The largest size, agreeing with the walk."""
    code, text = trace("node1", OUTSIDE, "--mtu", "--format", "json")
    assert code == 0
    found = told(text)
    assert (found["schema"], found["largest"], found["expected"]) == ("kvmdiag.mtu/1", 1500, 1500)


def test_several_probes(trace: Run, tmp_path: Path) -> None:
    """Figures for each segment; the capture file holds all probes."""
    file = tmp_path / "trace.pcapng"
    code, text = trace(
        "node1", OUTSIDE, "--count", "3", "--interval", "0.02", "--format", "json",
        "--pcap", str(file),
    )  # fmt: skip
    assert code == 0
    found = told(text)
    assert (found["sent"], found["answered"]) == (3, 3)
    assert {segment["came"] for segment in found["segments"]} == {3}
    assert file.read_bytes().count(b"probe 3: request, hop 1: node1/ens6 out") == 1
    code, text = trace("node1", OUTSIDE, "--count", "2", "--interval", "0.02")
    assert "2 of 2 answered" in text


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_wireshark_opens_the_capture(trace: Run, tmp_path: Path) -> None:
    """Each link is an interface under its own name, each packet has its hop as a comment."""
    file = tmp_path / "trace.pcapng"
    code, _ = trace("node1", OUTSIDE, "--pcap", str(file), "-q")
    assert code == 0
    fields = ("frame.interface_name", "icmp.type", "frame.comment")
    columns = [word for field in fields for word in ("-e", field)]
    shown = subprocess.run(
        ["tshark", "-r", str(file), "-T", "fields", *columns],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    assert shown[0] == "node1/ens6\t8\trequest, hop 1: node1/ens6 out, egress"
    assert shown[-1] == "node1/ens6\t0\treply, hop 9: node1/ens6 in, ingress"
    assert len(shown) == 18
    told_by = subprocess.run(
        ["capinfos", str(file)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "nanoseconds" in told_by
    assert re.search(r"Number of packets: +18\b", told_by)


def test_all_probes_lost(broken: str, trace: Run) -> None:
    """Exit code 1."""
    assert broken
    code, text = trace("node1", OUTSIDE, "--count", "2", "--interval", "0.02", "-q")
    assert (code, "0 of 2 answered" in text) == (1, True)


def test_watching_until_interrupted(cluster: str) -> None:
    """Lines at once; an interrupt is a good end, with the code of the last probe."""
    program = subprocess.Popen(
        [sys.executable, "-m", "kvmdiag", "--lab", cluster, "trace", "node1", OUTSIDE, "--watch",
         "-q", "--interval", "0.1"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(3)]
        assert all("reached, " in line for line in lines)
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=10)
        assert program.returncode == 0
    finally:
        program.kill()
        program.wait(timeout=10)


def test_dhcp_without_a_server(trace: Run) -> None:
    """The DISCOVER's way is shown, and that no OFFER came."""
    code, text = trace("node1", "dhcp", "--timeout", "0.5", "--format", "json")
    assert code == 1
    found = told(text)
    assert found["schema"] == "kvmdiag.exchange/1"
    assert [leg["name"] for leg in found["legs"]] == ["DISCOVER", "OFFER"]


def test_who_has_the_gateway(trace: Run) -> None:
    """Asked by ARP from inside, and on the tap; nobody there is exit code 1."""
    for how in ((), ("--on-tap",)):
        code, text = trace("node1", "arp", *how)
        assert code == 0
        assert "(master/ens6)" in text
    code, text = trace("node1", "arp", "192.168.48.77", "--timeout", "0.4", "--format", "json")
    assert code == 1
    found = told(text)
    assert (found["kind"], found["subject"], found["works"]) == ("arp", "192.168.48.77", False)


def test_dns_of_a_server_that_is_none(trace: Run) -> None:
    """Without --server the gateway is asked, and that is said."""
    code, text = trace("node1", "dns", "www.example.test")
    assert code == 1
    assert "asked its gateway 192.168.48.10" in " ".join(text.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("node1", "dns"),
        ("node1", "dhcp", "name"),
        ("node1", OUTSIDE, "name"),
        ("node1", OUTSIDE, "--tcp", "1", "--udp", "1"),
        ("node1", OUTSIDE, "--tcp", "1", "--mtu"),
        ("node1", OUTSIDE, "--no-probe", "--count", "2"),
        ("node1", OUTSIDE, "--no-probe", "--pcap", "x"),
        ("node1", "dhcp", "--no-probe"),
        ("node1", OUTSIDE, "--watch", "--format", "json"),
    ],
)
def test_what_does_not_fit_together(trace: Run, arguments: tuple[str, ...]) -> None:
    """Exit code 2 and one line."""
    code, text = trace(*arguments)
    assert code == 2
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "less", [["--reuid=65534", "--clear-groups"], ["--bounding-set=-net_raw,-sys_admin,-bpf"]]
)
def test_without_the_rights_it_is_predicted_only(cluster: str, less: list[str]) -> None:
    """Somebody else than root, and root without capabilities: it says so, and exit code 3."""
    inside = ["ip", "netns", "exec", f"kvmdiag-{cluster}-host", "setpriv", *less, "--inh-caps=-all"]
    command = [sys.executable, "-m", "kvmdiag", "trace", "host", OUTSIDE, "--format", "json"]
    done = subprocess.run(
        [*inside, *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3, done.stderr
    found = told(done.stdout)
    assert found["probe"] is None
    assert "not allowed to send from host" in found["not_probed"]
    assert found["hops"][0]["stack"] == "host"


def test_from_outside_only_on_request(trace: Run) -> None:
    """Whoever is there would get the answer: it is said how to ask for that, and where."""
    trace("host", OUTSIDE)  # so that the host knows its MAC address
    code, text = trace(OUTSIDE, "192.168.122.236")
    assert code == 3
    assert "--on-tap puts a probe on host/eno1" in " ".join(text.split())
    code, text = trace(OUTSIDE, "10.0.0.10", "--on-tap", "--format", "json")
    assert code == 0
    answer = told(text)
    assert (answer["hops"][0]["stack"], answer["hops"][0]["link"]) == ("host", "eno1")
    assert f"as if {OUTSIDE} had sent it" in answer["probe"]["remarks"][0]
