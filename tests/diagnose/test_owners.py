"""Rules are known by the names that programs give their tables and chains."""

import pytest

from kvmdiag.diagnose.owners import owner_of
from kvmdiag.model.trace import RuleRef


@pytest.mark.parametrize(
    ("table", "chain", "owner"),
    [
        ("filter", "LIBVIRT_FWI", "libvirt"),
        ("libvirt_network", "guest_input", "libvirt"),
        ("filter", "DOCKER-FORWARD", "Docker"),
        ("firewalld", "filter_FORWARD", "firewalld"),
        ("filter", "ufw-user-input", "ufw"),
        ("nat", "KUBE-SERVICES", "Kubernetes"),
    ],
)
def test_programs_are_known_by_their_names(table, chain, owner):
    """So that it can be told what a restart of theirs does."""
    rule = RuleRef(
        stack="host", family="ip", backend="nft", table=table, chain=chain, index=0, text=""
    )
    found = owner_of(rule)
    assert found is not None
    assert found.name == owner


@pytest.mark.parametrize("chain", ["FORWARD", "DOCKER-USER", "mine"])
def test_what_a_person_wrote_is_nobody_elses(chain):
    """DOCKER-USER is Docker's chain with a person's rules."""
    rule = RuleRef(
        stack="host", family="ip", backend="nft", table="filter", chain=chain, index=0, text=""
    )
    assert owner_of(rule) is None
