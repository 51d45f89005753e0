"""What rules of iptables mean, read from the text iptables-save prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.model.matches import (
    AddressIs,
    AddressTypeIs,
    BridgedIs,
    BridgePortIs,
    ConntrackStateIs,
    FieldIs,
    IcmpTypeIs,
    InterfaceIs,
    MacIs,
    MarkIs,
    PortIs,
    ProtocolIs,
    ReverseRouteIs,
    SetContains,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.model.statements import (
    Accept,
    AddToSet,
    CopyMark,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    NetMap,
    NoEffect,
    NoTrack,
    Redirect,
    Reject,
    Return,
    SetLife,
    SetMark,
    SetZone,
    SourceNat,
    TakeFromSet,
    UnknownStatement,
)
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.iptables import incompatible_tables, parse_rule, parse_save

TCP = ProtocolIs(protocols=("tcp",))
SYN = ("fin", "syn", "rst", "ack")

MATCHES = {
    "-s 10.0.0.0/255.0.0.0": AddressIs(side="src", networks=("10.0.0.0/8",)),
    "! -d 10.0.0.1": AddressIs(side="dst", networks=("10.0.0.1/32",), negate=True),
    "-s 10.0.0.0/255.0.255.0": UnknownMatch(text="-s 10.0.0.0/255.0.255.0"),
    "-i veth+": InterfaceIs(direction="in", names=("veth*",)),
    "! -o eth0": InterfaceIs(direction="out", names=("eth0",), negate=True),
    "-p gre": ProtocolIs(protocols=("47",)),
    "-p tcp": TCP,
    "! -p udp": ProtocolIs(protocols=("udp",), negate=True),
    "-m mark --mark 0x1/0xff": MarkIs(of="packet", value=1, mask=255),
    "-m connmark ! --mark 0x1": MarkIs(of="connection", value=1, negate=True),
    "-m state --state NEW,UNTRACKED": ConntrackStateIs(states=("new", "untracked")),
    "-m conntrack ! --ctstate DNAT": ConntrackStateIs(states=("dnat",), negate=True),
    "-m addrtype --dst-type LOCAL": AddressTypeIs(side="dst", types=("local",)),
    "-m addrtype ! --src-type LOCAL --limit-iface-in": AddressTypeIs(
        side="src", types=("local",), limit="in", negate=True
    ),
    "-m physdev --physdev-in vnet+": BridgePortIs(direction="in", names=("vnet*",)),
    "-m physdev ! --physdev-is-bridged": BridgedIs(which="bridged", negate=True),
    "-m mac --mac-source 52:54:00:AB:CD:EF": MacIs(side="src", macs=("52:54:00:ab:cd:ef",)),
    "-m iprange ! --dst-range 10.0.0.1-10.0.0.9": AddressIs(
        side="dst", networks=("10.0.0.1-10.0.0.9",), negate=True
    ),
    "-m set ! --match-set pools src,dst": SetContains(
        name="pools", fields=("src", "dst"), negate=True
    ),
    "-m limit --limit 5/min": UnknownMatch(text="-m limit --limit 5/min"),
    "-m mark --mark nonsense": UnknownMatch(text="--mark nonsense"),
    "-m conntrack ! --ctorigdst 10.0.0.1": AddressIs(
        side="dst", networks=("10.0.0.1/32",), negate=True, of="original"
    ),
    "-m conntrack --ctdir REPLY": FieldIs(field="ct direction", ranges=((1, 1),)),
    "-m conntrack --ctstatus ASSURED": FieldIs(field="ct status", ranges=((1, 0xFFFF),), mask=4),
    "-m conntrack ! --ctstatus SEEN_REPLY,CONFIRMED": FieldIs(
        field="ct status", ranges=((1, 0xFFFF),), mask=10, negate=True
    ),
    "-m tos --tos 0x10/0x3f": FieldIs(field="ip tos", ranges=((0x10, 0x10),), mask=0x3F),
    "-m rt --rt-type 0": FieldIs(field="exthdr", ranges=()),
    "-m rpfilter --validmark --invert": ReverseRouteIs(mark=True, negate=True),
    "-m ttl --ttl-lt 5": FieldIs(field="ip ttl", ranges=((0, 4),)),
    "-m length ! --length 100:200": FieldIs(field="meta length", ranges=((100, 200),), negate=True),
    "-m pkttype --pkt-type multicast": FieldIs(field="meta pkttype", ranges=((2, 2),)),
    "! -f": FieldIs(field="ip frag-off", ranges=((1, 0x1FFF),), mask=0x1FFF, negate=True),
    "-m recent --update --seconds 30": UnknownMatch(text="-m recent --update --seconds 30"),
    "-m set --match-set pools src --packets-gt 5": UnknownMatch(
        text="-m set --match-set pools src --packets-gt 5"
    ),
    "-m set ! --match-set pools src --packets-gt 5": UnknownMatch(
        text="-m set ! --match-set pools src --packets-gt 5"
    ),
    "-m set --match-set pools src --return-nomatch": UnknownMatch(
        text="-m set --match-set pools src --return-nomatch"
    ),
}


@pytest.mark.parametrize(("text", "expected"), MATCHES.items(), ids=MATCHES)
def test_match(text, expected):
    """A match stands before the verdict, negated where a ``!`` says so."""
    assert parse_rule(f"{text} -j ACCEPT").body[-2:] == (expected, Accept())


TCP_MATCHES = {
    "--dport 80": PortIs(side="dst", ranges=((80, 80),)),
    "-m tcp ! --sport 1000:2000": PortIs(side="src", ranges=((1000, 2000),), negate=True),
    "-m multiport --ports 80,443,1000:2000": PortIs(
        side="any", ranges=((80, 80), (443, 443), (1000, 2000))
    ),
    "-m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN": TcpFlagsAre(mask=SYN, flags=("syn",), negate=True),
    "--syn": TcpFlagsAre(mask=SYN, flags=("syn",)),
}


@pytest.mark.parametrize(("text", "expected"), TCP_MATCHES.items(), ids=TCP_MATCHES)
def test_match_of_tcp(text, expected):
    """Options of tcp are known with and without ``-m tcp``."""
    assert parse_rule(f"-p tcp {text} -j DROP").body == (TCP, expected, Drop())


TARGETS = {
    "-j RETURN": Return(),
    "-j LIBVIRT_FWI": Jump(chain="LIBVIRT_FWI"),
    "-g DOCKER": Goto(chain="DOCKER"),
    "-j REJECT": Reject(reply="icmp-port-unreachable"),
    "-j REJECT --reject-with tcp-reset": Reject(reply="tcp-reset"),
    "-j SNAT --to-source 10.0.0.10-10.0.0.12:1000-2000": SourceNat(
        first="10.0.0.10", last="10.0.0.12", ports=(1000, 2000)
    ),
    "-j DNAT --to-destination 192.168.122.2:80 --random": DestinationNat(
        first="192.168.122.2", ports=(80, 80), random=True
    ),
    "-j DNAT --to-destination :80": DestinationNat(first=None, ports=(80, 80)),
    "-j DNAT --to-destination 10.0.0.1:80-90/8000": UnknownStatement(
        text="-j DNAT --to-destination 10.0.0.1:80-90/8000"
    ),
    "-j MASQUERADE --to-ports 1024-65535": Masquerade(ports=(1024, 65535)),
    "-j MASQUERADE --random-fully": Masquerade(random=True),
    "-j REDIRECT --to-ports 8080": Redirect(ports=(8080, 8080)),
    "-j MARK --set-xmark 0x1/0xff": SetMark(of="packet", value=1, mask=0xFF),
    "-j MARK --set-mark 0x1/0xf0": SetMark(of="packet", value=1, mask=0xF1),
    "-j MARK --and-mark 0x5": SetMark(of="packet", value=0, mask=0xFFFFFFFA),
    "-j MARK --or-mark 0x5": SetMark(of="packet", value=5, mask=5),
    "-j MARK --xor-mark 0x5": SetMark(of="packet", value=5, mask=0),
    "-j CONNMARK --set-xmark 0x1": SetMark(of="connection", value=1),
    "-j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xff": CopyMark(
        to="packet", keep=0xFFFFFFF0, take=0xFF
    ),
    "-j CONNMARK --save-mark": CopyMark(to="connection"),
    "-j NETMAP --to 10.1.0.0/24": NetMap(network="10.1.0.0/24"),
    "-j NOTRACK": NoTrack(),
    "-j CT --notrack": NoTrack(),
    "-j CT --zone 5": SetZone(zone=5),
    "-j CT --zone mark": UnknownStatement(text="-j CT --zone mark"),
    "-j TTL --ttl-set 64": SetLife(family="ip", value=64),
    "-j TTL --ttl-dec 3": SetLife(family="ip", value=-3, relative=True),
    "-j TTL --ttl-set 640": UnknownStatement(text="-j TTL --ttl-set 640"),
    "-j SET --add-set s src": AddToSet(name="s", ipset=True),
    "-j SET --del-set s src": TakeFromSet(name="s", ipset=True),
    "-j SET --map-set s src": UnknownStatement(text="-j SET --map-set s src"),
    "-j CHECKSUM --checksum-fill": NoEffect(text="-j CHECKSUM --checksum-fill"),
    "-j TPROXY": UnknownStatement(text="-j TPROXY"),
    "": NoEffect(text="no target"),
}


@pytest.mark.parametrize(("text", "expected"), TARGETS.items(), ids=TARGETS)
def test_target(text, expected):
    """What a target does, and that an unknown one stays."""
    match = InterfaceIs(direction="in", names=("br0",))
    assert parse_rule(f"-i br0 {text}").body == (match, expected)


def test_families_differ():
    """ICMPv6 has its own types and its own default refusal."""
    rule = parse_rule("-p ipv6-icmp -m icmp6 --icmpv6-type echo-request -j REJECT", family="ip6")
    assert rule.body == (
        ProtocolIs(protocols=("icmpv6",)),
        IcmpTypeIs(types=((128, None),)),
        Reject(reply="icmp6-port-unreachable"),
    )
    nat = parse_rule("-p tcp -j DNAT --to-destination [fd00::2]:80", family="ip6")
    assert nat.body[-1] == DestinationNat(first="fd00::2", ports=(80, 80))


def test_quoted_words_are_one_value():
    """Quotes and backslashes as iptables writes them; what looks like an option is none."""
    text = r'-m comment --comment "a \"b\" c\'s -j DROP" -j LOG --log-prefix "-j ACCEPT "'
    rule = parse_rule(text)
    assert rule.comment == """a "b" c's -j DROP"""
    assert rule.body == (NoEffect(text="-j LOG --log-prefix -j ACCEPT "),)


SAVED = """\
# Generated by iptables-nft-save
*{table}
:{chain} DROP [10:840]
:USER - [0:0]
[3:252] -A {chain} -j USER
[0:0] -A USER -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize(
    ("table", "chain", "kind", "priority"),
    [
        ("raw", "PREROUTING", "filter", -300),
        ("mangle", "FORWARD", "filter", -150),
        ("mangle", "OUTPUT", "route", -150),
        ("filter", "INPUT", "filter", 0),
        ("security", "OUTPUT", "filter", 50),
        ("nat", "PREROUTING", "nat", -100),
        ("nat", "OUTPUT", "nat", -100),
        ("nat", "INPUT", "nat", 100),
        ("nat", "POSTROUTING", "nat", 100),
    ],
)
def test_base_chains_are_the_kernels(table, chain, kind, priority):
    """Hook, type, priority, policy and counters of a built-in chain."""
    text = SAVED.format(table=table, chain=chain)
    (read,) = parse_save(text, family="ip", backend="iptables-legacy")
    base, user = read.chains
    assert (base.hook, base.type, base.priority) == (chain.lower(), kind, priority)
    assert (base.policy, base.packets, base.bytes) == ("drop", 10, 840)
    assert user.hook is None
    (rule,) = base.rules
    assert (rule.text, rule.packets, rule.bytes) == (f"-A {chain} -j USER", 3, 252)
    assert rule.body == (Jump(chain="USER"),)


def test_chain_may_be_named_like_no_target():
    """In a whole table a name that is neither target nor chain is not understood."""
    text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j NEWTARGET\nCOMMIT\n"
    (table,) = parse_save(text, family="ip", backend="iptables-nft")
    assert table.chains[0].rules[0].body == (UnknownStatement(text="-j NEWTARGET"),)


def test_incompatible_tables_are_named():
    """iptables-nft-save says which tables it cannot print."""
    text = "# Table `filter' is incompatible, use 'nft' tool.\n"
    assert incompatible_tables(text) == {"filter"}
    assert parse_save(text, family="ip", backend="iptables-nft") == ()


@pytest.mark.parametrize(
    "text",
    ["iptables-save: command not found", "*filter\n:INPUT ACCEPT [0:0]", "*nat\nrubbish\nCOMMIT"],
)
def test_what_is_no_listing_is_refused(text):
    """A listing that broke off, or is none, is never taken for an empty one."""
    with pytest.raises(ParseError):
        parse_save(text, family="ip", backend="iptables-nft")


@given(st.text())
def test_any_rule_is_kept(text):
    """Whatever stands in a rule, something of it remains and nothing fails."""
    rule = parse_rule(text)
    assert rule.body
    assert rule.text == text.strip()


@given(
    st.lists(
        st.sampled_from(["-m", "-s", "-j", "!", "--dport", "DROP", "tcp", "-p", '"', "9", "--mark"])
    )
)
def test_any_words_of_rules_are_kept(words):
    """Words in any order still make a rule."""
    assert parse_rule(" ".join(words)).body


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """No text makes the reader fail otherwise."""
    try:
        parse_save(text, family="ip", backend="iptables-nft")
    except ParseError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
