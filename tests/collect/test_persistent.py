"""What comes back after a reboot: files in the order in which they count, without secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmdiag.collect.persistent import read_persistent


def put(root, path, text):
    """Write a file below ``root``."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_nothing_is_there(tmp_path):
    """Read, and empty."""
    persistent, gaps = read_persistent(tmp_path)
    assert (persistent.files, persistent.sysctls, gaps) == ((), (), ())


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("etc/sysctl.conf", "sysctl"),
        ("etc/netplan/01.yaml", "netplan"),
        ("etc/systemd/network/br0.netdev", "networkd"),
        ("etc/network/interfaces", "ifupdown"),
        ("etc/network/interfaces.d/br0", "ifupdown"),
        ("etc/NetworkManager/system-connections/a.nmconnection", "networkmanager"),
        ("etc/iptables/rules.v4", "iptables"),
        ("etc/nftables.conf", "nftables"),
        ("etc/modules-load.d/br.conf", "modules"),
    ],
)
def test_each_place_is_read(tmp_path, path, source):
    """With what is in it."""
    put(tmp_path, path, "x = y\n")
    (file,) = read_persistent(tmp_path)[0].files
    assert (file.source, file.path, file.content) == (source, f"/{path}", "x = y\n")


def test_the_last_sysctl_wins_and_etc_hides_the_rest(tmp_path):
    """By name of the file, as sysctl.d(5) says; sysctl.conf comes last."""
    put(tmp_path, "usr/lib/sysctl.d/50-a.conf", "net.ipv4.ip_forward = 0\n")
    put(tmp_path, "usr/lib/sysctl.d/10-b.conf", "net.ipv4.ip_forward = 5\nhidden=1\n")
    put(tmp_path, "etc/sysctl.d/10-b.conf", "-net/ipv4/conf/all/rp_filter = 1\n# net.x = 1\n")
    put(tmp_path, "etc/sysctl.conf", "net.ipv4.ip_forward=1\n")
    assert read_persistent(tmp_path)[0].sysctls == (
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.ip_forward", "1"),
    )


@pytest.mark.parametrize("line", ["psk=abc", "wifi-sec.password: abc", "PrivateKey = abc"])
def test_secrets_are_not_kept(tmp_path, line):
    """A snapshot may be sent to somebody."""
    put(tmp_path, "etc/systemd/network/wg.netdev", f"[A]\n{line}\nb=c\n")
    (file,) = read_persistent(tmp_path)[0].files
    assert "abc" not in file.content
    assert "b=c" in file.content


def test_what_is_too_long_or_no_file_is_not_waited_for(tmp_path):
    """The first is a gap, the second is nothing that configures anything."""
    put(tmp_path, "etc/iptables/rules.v4", "x" * (300 << 10))
    os.mkfifo(tmp_path / "etc/nftables.conf")
    persistent, (gap,) = read_persistent(tmp_path)
    assert [(file.path, file.content) for file in persistent.files] == [
        ("/etc/iptables/rules.v4", None)
    ]
    assert gap.fact == "content of /etc/iptables/rules.v4"


def test_a_folder_that_may_not_be_read_is_a_gap(tmp_path, monkeypatch):
    """It is not known to be empty."""
    put(tmp_path, "etc/sysctl.conf", "a=1\n")
    (tmp_path / "etc/netplan").mkdir()
    listed = Path.iterdir

    def iterdir(folder):
        if folder == tmp_path / "etc/netplan":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    persistent, (gap,) = read_persistent(tmp_path)
    assert [file.path for file in persistent.files] == ["/etc/sysctl.conf"]
    assert gap.fact == "content of /etc/netplan"


def test_more_files_than_are_looked_at_are_gaps(tmp_path, monkeypatch):
    """Each is named."""
    monkeypatch.setattr("kvmdiag.collect.persistent._MOST_FILES", 1)
    put(tmp_path, "etc/sysctl.conf", "a=1\n")
    put(tmp_path, "etc/modules", "br_netfilter\n")
    persistent, (gap,) = read_persistent(tmp_path)
    assert [file.path for file in persistent.files] == ["/etc/sysctl.conf"]
    assert gap.fact == "content of /etc/modules"
