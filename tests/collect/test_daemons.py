"""Which daemons run where, and what their files say: from /proc and /etc made for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmdiag.collect.processes.daemons import read_daemons
from kvmdiag.model.daemons import Setting


@pytest.fixture
def machine(tmp_path):
    """Folders that stand for / and /proc, and a maker of processes."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "etc").mkdir()

    def process(pid, comm, netns, *arguments):
        folder = tmp_path / "proc" / str(pid)
        (folder / "ns").mkdir(parents=True)
        (folder / "comm").write_text(comm + "\n")
        (folder / "cmdline").write_text("\0".join(arguments))
        (tmp_path / netns).touch()
        (folder / "ns/net").symlink_to(tmp_path / netns)

    return tmp_path, process


def namespace(folder, name):
    """What tells the namespace of that name."""
    status = os.stat(folder / name)
    return status.st_dev, status.st_ino


def test_what_runs_is_found_with_the_stack_it_runs_in(machine):
    """By the name the kernel knows it by, which is cut off; other programs are left out."""
    root, process = machine
    process(7, "systemd-resolve", "net-a")
    process(8, "dnsmasq", "net-a")
    process(9, "dnsmasq", "net-elsewhere")
    process(10, "bash", "net-a")
    found, gaps = read_daemons({namespace(root, "net-a"): "host"}, root=root, proc=root / "proc")
    assert [(d.name, d.pid, d.stack, d.running) for d in found] == [
        ("systemd-resolved", 7, "host", True),
        ("dnsmasq", 8, "host", True),
    ]
    assert gaps == ()


def test_a_dnsmasq_of_libvirt_is_read_by_the_file_it_was_given(machine):
    """Repeated settings stand apart, comments are left out."""
    root, process = machine
    process(8, "dnsmasq", "net-a", "dnsmasq", "--conf-file=/var/default.conf", "--leasefile-ro")
    (root / "var").mkdir()
    (root / "var/default.conf").write_text("##x\ninterface=virbr0\ndhcp-range=a,b\nstrict-order\n")
    ((dnsmasq,), _) = read_daemons(
        {namespace(root, "net-a"): "host"}, root=root, proc=root / "proc"
    )
    words, file = dnsmasq.files
    assert (words.path, words.settings[1].key) == ("command line", "leasefile-ro")
    assert file.path == "/var/default.conf"
    assert file.settings == (
        Setting(key="interface", value="virbr0"),
        Setting(key="dhcp-range", value="a,b"),
        Setting(key="strict-order", value=""),
    )


@pytest.mark.parametrize(
    "words",
    [
        "--interface=mybr0 --bind-interfaces --dhcp-range=192.0.2.10,192.0.2.99 --port=0",
        "--interface mybr0 --bind-interfaces --dhcp-range 192.0.2.10,192.0.2.99 --port 0",
        "-i mybr0 -z -F 192.0.2.10,192.0.2.99 -p 0",
        "-imybr0 -z -F192.0.2.10,192.0.2.99 -p0",
    ],
)
def test_a_dnsmasq_that_was_started_by_hand(machine, words):
    """What it serves stands on its command line, in whatever form (getopt_long(3))."""
    root, process = machine
    process(8, "dnsmasq", "net-a", "dnsmasq", *words.split())
    (root / "etc/dnsmasq.conf").write_text("domain=test.cluster\n")
    ((dnsmasq,), _) = read_daemons(
        {namespace(root, "net-a"): "host"}, root=root, proc=root / "proc"
    )
    told, usual = dnsmasq.files
    assert [(s.key, s.value) for s in told.settings] == [
        ("interface", "mybr0"),
        ("bind-interfaces", ""),
        ("dhcp-range", "192.0.2.10,192.0.2.99"),
        ("port", "0"),
    ]
    assert usual.path == "/etc/dnsmasq.conf"


def test_secrets_on_a_command_line_are_not_kept(machine):
    """Nor are words that are no options."""
    root, process = machine
    process(8, "dockerd", "net-a", "dockerd", "--iptables=false", "--x-token", "abc", "abc")
    ((docker,), _) = read_daemons({namespace(root, "net-a"): "host"}, root=root, proc=root / "proc")
    assert docker.files[0].settings == (
        Setting(key="iptables", value="false"),
        Setting(key="x-token", value="***"),
    )


def test_what_is_configured_but_does_not_run_is_said(machine):
    """Docker's JSON member by member; ufw runs when it is enabled."""
    root, _ = machine
    (root / "etc/docker").mkdir()
    (root / "etc/docker/daemon.json").write_text('{"iptables": false, "bip": "10.1.0.1/16"}')
    (root / "etc/ufw").mkdir()
    (root / "etc/ufw/ufw.conf").write_text("ENABLED=yes\n")
    found, _ = read_daemons({}, root=root, proc=root / "proc")
    told = {daemon.name: daemon for daemon in found}
    assert told["ufw"].running is True
    assert told["dockerd"].running is False
    assert [(s.key, s.value) for s in told["dockerd"].files[0].settings] == [
        ("iptables", "false"),
        ("bip", '"10.1.0.1/16"'),
    ]
    assert read_daemons({}, configured=False, root=root, proc=root / "proc") == ((), ())


def test_no_secret_is_kept_and_no_file_is_endless(machine):
    """A token is not shown; a file that is too long is a gap."""
    root, _ = machine
    (root / "etc/dnsmasq.conf").write_text("api-token=abc\n")
    (root / "etc/dnsmasq.d").mkdir()
    (root / "etc/dnsmasq.d/big.conf").write_text("#" * (300 << 10))
    ((dnsmasq,), (gap,)) = read_daemons({}, root=root, proc=root / "proc")
    assert dnsmasq.files[0].settings == (Setting(key="api-token", value="***"),)
    assert dnsmasq.files[1].settings is None
    assert "big.conf" in gap.why


@pytest.mark.kernel
def test_a_real_daemon_in_a_real_namespace(namespaces, eventually):
    """dnsmasq, if it is installed."""
    made = namespaces("host")
    if made.run("which dnsmasq", check=False).returncode:
        pytest.skip("needs dnsmasq")
    made.ip("link set lo up")
    made.start("dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --pid-file=")
    which = namespace(Path("/run/netns"), made.name)

    def is_found():
        # Where dnsmasq is configured it is listed before it runs, too.
        found = [d for d in read_daemons({which: "host"})[0] if d.running]
        return [(d.name, d.stack) for d in found] == [("dnsmasq", "host")]

    eventually(is_found, "dnsmasq was not found")
    (daemon,) = (one for one in read_daemons({which: "host"})[0] if one.running)
    assert Setting(key="port", value="0") in daemon.files[0].settings


def test_a_daemon_that_may_not_be_looked_at_is_not_one_that_does_not_run(machine, monkeypatch):
    """Whether it belongs here is not known: nothing is said of any."""
    root, process = machine
    process(8, "dnsmasq", "net-a")

    def stat(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("kvmdiag.collect.processes.daemons.os.stat", stat)
    with pytest.raises(PermissionError):
        read_daemons({}, root=root, proc=root / "proc")
