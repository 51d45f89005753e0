"""Who keeps a rule, and what becomes of it when that program starts anew."""

from __future__ import annotations

from typing import NamedTuple

from kvmdiag.model.trace import RuleRef


class Owner(NamedTuple):
    """A program that writes rules, and what it does to them at a restart."""

    name: str
    habit: str


_LIBVIRT = Owner("libvirt", "written anew when a network starts")
_DOCKER = Owner("Docker", "written anew, in front of others, when Docker starts")
_FIREWALLD = Owner("firewalld", "all written anew at each reload")
_UFW = Owner("ufw", "written anew by ufw reload")
_KUBERNETES = Owner("Kubernetes", "kept in place by its node agent")

_BY_CHAIN = (
    ("LIBVIRT_", _LIBVIRT),
    ("DOCKER", _DOCKER),
    ("ufw", _UFW),
    ("KUBE-", _KUBERNETES),
    ("cali-", _KUBERNETES),
    ("f2b-", Owner("fail2ban", "written anew when fail2ban starts")),
)
_BY_TABLE = {
    "libvirt_network": _LIBVIRT,
    "firewalld": _FIREWALLD,
    "docker-bridges": _DOCKER,
}


def owner_of(rule: RuleRef) -> Owner | None:
    """The program that keeps a rule, by the name of its table or chain; ``None``: a person's."""
    if rule.table in _BY_TABLE:
        return _BY_TABLE[rule.table]
    if rule.chain == "DOCKER-USER":
        return None  # Docker makes the chain and leaves what is in it alone
    return next((owner for prefix, owner in _BY_CHAIN if rule.chain.startswith(prefix)), None)
