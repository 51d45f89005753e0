"""A redacted snapshot tells nothing of whose it is, and everything of what is wrong."""

from __future__ import annotations

import gzip
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvmdiag.model.codec import load, save
from kvmdiag.model.redact.addresses import Addresses
from kvmdiag.model.redact.macs import Macs
from kvmdiag.model.redact.names import Names
from kvmdiag.model.redact.snapshot import redact
from kvmdiag.model.redact.text import Texts

from .strategies import SECRETS, snapshots

KEY = b"test"
_v4 = st.ip_addresses(v=4)
_v6 = st.ip_addresses(v=6)


def _addresses(networks=(), ranges=()):
    return Addresses(
        KEY,
        [ip_network(n, strict=False) for n in networks],
        [tuple(ip_address(end) for end in r.split("-")) for r in ranges],
        Macs(KEY),
    )


@settings(max_examples=25, deadline=None)
@given(snapshots())
def test_no_secret_is_left(snapshot):
    """Wherever a name, an address or a MAC stands, in whatever text of whatever field."""
    text = gzip.decompress(save(redact(snapshot, key=KEY))).decode()
    assert [secret for secret in SECRETS if secret in text] == []


@settings(max_examples=10, deadline=None)
@given(snapshots())
def test_a_redacted_snapshot_is_a_snapshot(snapshot):
    """It can be saved and loaded, and the same key makes the same stand-ins."""
    once = redact(snapshot, key=KEY)
    assert redact(snapshot, key=KEY) == once
    assert save(load(save(once))) == save(once)


@settings(max_examples=300, deadline=None)
@given(st.lists(_v4, min_size=2, max_size=2), st.integers(1, 24))
def test_v4_neighbours_stay_neighbours(addresses, length):
    """Two addresses are in one network afterwards exactly if they were before."""
    one, other = addresses
    made = [_addresses()(address) for address in addresses]
    before = ip_address(other) in ip_network(f"{one}/{length}", strict=False)
    after = made[1] in ip_network(f"{made[0]}/{length}", strict=False)
    assert after == before


@settings(max_examples=200, deadline=None)
@given(_v6, st.integers(0, 2**64 - 1), st.integers(4, 128))
def test_v6_neighbours_stay_neighbours(one, difference, length):
    """Down to the single address, for identifiers that are not made from MAC addresses."""
    addresses = _addresses(("::/128", f"{one}/65"))
    other = ip_address(int(one) ^ difference >> 3)
    made = [addresses(one), addresses(other)]
    before = other in ip_network(f"{one}/{min(length, 65)}", strict=False)
    assert (made[1] in ip_network(f"{made[0]}/{min(length, 65)}", strict=False)) == before


@settings(max_examples=300, deadline=None)
@given(_v4 | _v6)
@example(ip_address("2001:1::1"))  # global, and 2001:1::3 is not
@example(ip_address("2001:4:112::7"))
@example(ip_address("64:ff9b:1::1"))
def test_what_kind_of_address_it_is_stays(address):
    """Private, link-local, multicast, loopback, documentation, reserved."""
    made = _addresses()(address)
    kinds = ("is_private", "is_link_local", "is_multicast", "is_loopback", "is_reserved")
    assert [getattr(made, kind) for kind in kinds] == [getattr(address, kind) for kind in kinds]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "224.0.0.251",
        "169.254.169.254",
        "::",
        "::1",
        "ff02::16",
    ],
)
def test_addresses_that_everybody_knows_stay(address):
    """They have one meaning everywhere."""
    assert str(_addresses()(ip_address(address))) == address


@pytest.mark.parametrize("network", ["10.61.0.0/16", "172.17.0.0/16", "10.5.16.0/20"])
def test_broadcast_and_network_addresses_stay_such(network):
    """The kernel treats them apart, and rules and routes name them."""
    addresses = _addresses([network])
    net = ip_network(network)
    made = ip_network((addresses.network(net.network_address, net.prefixlen), net.prefixlen))
    assert addresses(net.network_address) == made.network_address
    assert addresses(net.broadcast_address) == made.broadcast_address


def test_ranges_hold_what_they_held():
    """Even when they go over several networks."""
    first, inside, last, beyond = (
        ip_address(a) for a in ("10.61.3.200", "10.61.9.1", "10.61.12.7", "10.61.12.8")
    )
    addresses = _addresses(ranges=[f"{first}-{last}"])
    assert addresses(first) < addresses(inside) < addresses(last) < addresses(beyond)
    assert addresses(first) != first


def test_a_tap_still_belongs_to_its_guest():
    """Libvirt gives a tap its guest's MAC address with fe in front."""
    macs = Macs(KEY)
    tap, guest = macs("fe:54:00:68:f2:82"), macs("52:54:00:68:f2:82")
    assert tap.startswith("fe:54:00:")
    assert guest.startswith("52:54:00:")
    assert tap[3:] == guest[3:]
    assert tap[3:] != "54:00:68:f2:82"


@given(st.binary(min_size=6, max_size=6))
def test_macs_stay_of_their_kind(octets):
    """Group and local bits decide what a bridge does."""
    made = Macs(KEY).octets(octets)
    assert made[0] & 3 == octets[0] & 3


def test_an_identifier_made_from_a_mac_follows_it():
    """Else it would give the MAC away."""
    macs = Macs(KEY)
    addresses = Addresses(KEY, (), (), macs)
    made = addresses(ip_address("fe80::5054:ff:fe68:f282"))
    o = macs("52:54:00:68:f2:82").split(":")
    assert made == ip_address(f"fe80::{int(o[0], 16) ^ 2:x}{o[1]}:{o[2]}ff:fe{o[3]}:{o[4]}{o[5]}")


_link = st.text("aelvnt-0", min_size=1, max_size=6) | st.sampled_from(("vnet0", "virbr0", "tap1"))


@settings(max_examples=200, deadline=None)
@given(st.lists(_link, min_size=1, max_size=8), st.lists(_link, max_size=4))
def test_patterns_match_the_same_links(links, patterns):
    """A rule for ``acme*`` or ``vnet*`` sees those links that it saw before, and no other."""
    names = Names([*links, *(f"{p}*" for p in patterns)], (), ())
    for link in links:
        for pattern in patterns:
            made, wanted = names.get(link), names.get(f"{pattern}*")
            assert made is not None
            assert wanted is not None
            assert made.startswith(wanted[:-1]) == link.startswith(pattern)
    assert len({names.get(link) for link in links}) == len(set(links))


def _texts(*names):
    return Texts(_addresses(), Macs(KEY), Names(names, (), ("node1",)))


@pytest.mark.parametrize(
    "rule",
    [
        "-A FORWARD -p tcp -m tcp --dport 80:90 -m conntrack --ctstate NEW,RELATED -j DROP",
        "-A POSTROUTING -m addrtype --src-type LOCAL -j MASQUERADE --to-ports 1024-65535",
        "-A INPUT -m mark --mark 0x4000/0x4000 -m limit --limit 5/sec -j LOG --log-level 4",
        "iifname lo ct state established,related counter packets 3 bytes 180 accept",
        "ip daddr 224.0.0.0/24 meta l4proto { tcp, udp } th dport 53 return",
        "icmp type echo-request reject with icmp port-unreachable",
    ],
)
def test_rules_stay_readable(rule):
    """What is everybody's language stays."""
    assert _texts().rule(rule) == rule


def test_what_is_nobodys_language_goes():
    """Log prefixes, strings, comments, names of sets, files."""
    rule = (
        '-A x -m string --string "pass word" -m set --match-set vips src -j LOG --log-prefix "a b"'
    )
    made = _texts().rule(rule)
    assert all(word not in made.split() for word in ("x", "vips"))
    assert "pass" not in made
    assert "--match-set" in made


def test_sentences_stay_readable():
    """A gap's advice is of use to whoever reads it."""
    said = "/run/netns/node1 cannot be entered: permission denied; run as root"
    made = _texts().prose(said)
    assert made.endswith("cannot be entered: permission denied; run as root")
    assert made.startswith("/run/netns/name")


def test_names_of_several_words_are_found_in_sentences():
    """A guest may be called so."""
    texts = Texts(_addresses(), Macs(KEY), Names((), (), ("my vm", "my vm (old)")))
    made = texts.prose("the agent of my vm (old) did not answer, that of my vm did")
    assert "vm" not in made
    assert made.count("name") == 2


def test_a_path_or_name_of_another_is_not_an_original():
    """Stand-ins are taken from what the snapshot does not use."""
    names = Names(("vnetN01", "vnet1"), (), ())
    assert names.get("vnet1") not in ("vnet1", "vnetN01")
