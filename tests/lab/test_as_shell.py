"""What a step does in a namespace, its shell does: virtual machines get the same faults."""

import pytest

from kvmdiag.lab.as_shell import as_shell
from kvmdiag.lab.faults import forwarding_off, in_table, link_down, without_route
from kvmdiag.lab.spec import Nft, Shell, Sysctls


@pytest.fixture
def guest(namespaces):
    """A namespace in the place of a guest: a NIC, a route, rules, and it forwards."""
    made = namespaces("guest")
    made.ip(
        "link add name ens3 type bridge",
        "link add name ens3.7 type bridge",
        "address add 192.0.2.2/24 dev ens3",
        "link set ens3 up",
        "route add default via 192.0.2.1",
    )
    made.sysctl("net.ipv4.ip_forward", 1)
    made.run(["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.1", "-j", "ACCEPT"])
    made.run("nft add table ip mine")
    return made


def done(guest, step):
    """Carry a step out as a guest's agent does."""
    guest.run(["sh", "-ec", as_shell(step)])


def test_routes_and_links(guest):
    """Lines for ``ip``."""
    done(guest, without_route("guest", "default via 192.0.2.1"))
    assert "default" not in guest.run("ip route").stdout
    done(guest, link_down("guest", "ens3"))
    assert "state DOWN" in guest.run("ip link show ens3").stdout


def test_settings(guest):
    """Also those of a link with a dot in its name, which is written as a slash."""
    done(guest, forwarding_off("guest"))
    assert guest.sysctl("net.ipv4.ip_forward") == "0"
    keys = ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.ens3/7.rp_filter")
    done(guest, Sysctls("guest", dict.fromkeys(keys, "2")))
    assert [guest.sysctl(key) for key in keys] == ["2", "2"]


def test_rules(guest):
    """Of iptables and of nft; what is not named stays."""
    done(guest, in_table("guest", "nat", "-D POSTROUTING -s 10.0.0.1/32 -j ACCEPT"))
    rules = guest.run("nft list ruleset").stdout
    assert "10.0.0.1" not in rules
    assert "table ip mine" in rules
    done(guest, Nft("guest", "delete table ip mine\n"))
    assert "table ip mine" not in guest.run("nft list ruleset").stdout


def test_a_refusal_is_noticed(guest):
    """The shell ends with an error, so that the fault is taken back."""
    step = without_route("guest", "default via 192.0.2.77")
    assert guest.run(["sh", "-ec", as_shell(step)], check=False).returncode != 0


def test_shell_is_what_it_is():
    """Nothing is added."""
    assert as_shell(Shell("guest", "echo a\necho b")) == "echo a\necho b"
