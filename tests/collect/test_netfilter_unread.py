"""Programs that are not there: rules that only they can tell are unknown, never absent."""

from __future__ import annotations

import pytest

from kvmdiag.collect.netfilter import programs as nf_programs
from kvmdiag.collect.netfilter import tables as netfilter
from kvmdiag.model.matches import ConntrackStateIs, UnknownMatch
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import ProgramMissing, run

from .rulesets import LIBVIRT, NATIVE, read

pytestmark = pytest.mark.kernel


def without(monkeypatch, *missing):
    """Make these programs missing."""

    def runner(argv, **options):
        if argv[0] in missing:
            raise ProgramMissing(argv[0])
        return run(argv, **options)

    monkeypatch.setattr(nf_programs, "run", runner)


def test_missing_nft_is_not_an_empty_ruleset(host, monkeypatch):
    """Rules are there and cannot be read: not known, and what to install."""
    host.run("iptables-nft-restore", input=LIBVIRT)
    host.run("nft -f -", input=NATIVE)
    without(monkeypatch, "nft")
    with entered(host.path):
        tables, (gap,) = netfilter.read_tables("host")
    assert tables is None
    assert (gap.stack, gap.fact, gap.help) == ("host", "tables", "install nftables")


def test_missing_nft_does_not_matter_without_rules(host, monkeypatch):
    """The kernel itself says that there are no tables."""
    without(monkeypatch, "nft", "iptables-nft-save")
    assert read(host) == ({}, ())


def test_missing_iptables_leaves_unknown_matches(host, monkeypatch):
    """What nft cannot translate either is unknown in the rules, and a gap says why."""
    host.run("iptables-nft-restore", input=LIBVIRT)
    host.run("iptables-nft -A FORWARD -m physdev --physdev-is-bridged -j ACCEPT")
    without(monkeypatch, "iptables-nft-save")
    tables, (gap,) = read(host)
    assert gap.help == "install iptables"
    table = tables["nft", "ip", "filter"]
    assert table.chain("FORWARD").rules[-1].body[0] == UnknownMatch(text="xt match physdev")
    assert ConntrackStateIs(states=("established", "related")) in (
        table.chain("LIBVIRT_FWI").rules[0].body
    )


def test_ipsets_without_ipset_are_a_gap(host, monkeypatch):
    """Rules that ask a set stay, and it is said that what they ask could not be read."""
    host.run("ipset create pools hash:net")
    host.run("iptables-nft -A FORWARD -m set --match-set pools src -j DROP")
    without(monkeypatch, "ipset")
    tables, (gap,) = read(host)
    assert (gap.fact, gap.help) == ("ipsets", "install ipset")
    assert tables["iptables-nft", "ip", "filter"].chain("FORWARD").rules
