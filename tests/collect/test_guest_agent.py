"""The guest agent's protocol, spoken with agents that are honest, slow, absurd or hostile."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.collect.guest import agent as guest_agent
from kvmdiag.collect.guest.agent import (
    Agent,
    AgentBabbles,
    AgentError,
    AgentRefuses,
    AgentSilent,
)
from kvmdiag.collect.guest.facts import read_guest


def agent(answers, seconds=5.0):
    """An agent that answers each command as told: ``{"guest-info": {...}}`` or a function."""

    def send(command, _seconds):
        asked = json.loads(command)
        answer = answers[asked["execute"]]
        if callable(answer):
            answer = answer(asked.get("arguments"))
        return answer if isinstance(answer, str) else json.dumps({"return": answer})

    return Agent(send, time.monotonic() + seconds)


def b64(text):
    """As agents pass on what programs print."""
    return base64.b64encode(text.encode()).decode()


def test_the_commands_that_may_be_used():
    """Those that the guest's owner has forbidden do not count."""
    commands = [{"name": "guest-exec", "enabled": False}, {"name": "guest-ping", "enabled": True}]
    told = agent({"guest-info": {"version": "8.2", "supported_commands": commands}}).info()
    assert told == ("8.2", frozenset({"guest-ping"}))


def test_a_program_is_waited_for():
    """Its output is asked for until it has ended."""
    states = [
        {"exited": False},
        {"exited": True, "exitcode": 3, "out-data": b64("out"), "err-data": b64("err")},
    ]
    ran = agent({"guest-exec-status": lambda _: states.pop(0)}).result(7)
    assert (ran.code, ran.out, ran.complaint) == (3, "out", "err")


def test_no_shell_sees_what_is_run():
    """The full path and each argument by itself."""
    seen = []
    agent({"guest-exec": lambda given: seen.append(given) or {"pid": 1}}).start("/sbin/ip", ["a b"])
    assert (seen[0]["path"], seen[0]["arg"]) == ("/sbin/ip", ["a b"])


def test_a_file_is_read_block_by_block_and_closed():
    """Also when it is longer than what comes at once."""
    blocks = [{"buf-b64": b64("one "), "eof": False}, {"buf-b64": b64("two"), "eof": True}]
    closed = []
    answers = {
        "guest-file-open": 1000,
        "guest-file-read": lambda _: blocks.pop(0),
        "guest-file-close": lambda given: closed.append(given["handle"]) or {},
    }
    assert agent(answers).read("/etc/resolv.conf") == "one two"
    assert closed == [1000]


def test_a_program_that_never_ends_is_given_up():
    """By the deadline, whatever the guest says."""
    started = time.monotonic()
    with pytest.raises(AgentSilent, match="took too long"):
        agent({"guest-exec-status": {"exited": False}}, seconds=0.3).result(7)
    assert time.monotonic() - started < 2


def test_a_file_without_an_end_is_given_up(monkeypatch):
    """By its size: a guest cannot fill the host's memory."""
    monkeypatch.setattr(guest_agent, "LIMIT", 1 << 20)
    answers = {
        "guest-file-open": 1,
        "guest-file-read": {"buf-b64": "QUFB" * 10000, "eof": False},
        "guest-file-close": {},
    }
    with pytest.raises(AgentBabbles, match="more than 1 MiB"):
        agent(answers).read("/dev/zero")


def test_output_that_was_cut_off_is_not_taken_for_all():
    """Half a list of rules is no list of rules."""
    answer = {"exited": True, "exitcode": 0, "out-data": b64("x"), "out-truncated": True}
    with pytest.raises(AgentBabbles, match="more than"):
        agent({"guest-exec-status": answer}).result(1)


@pytest.mark.parametrize(
    "answer",
    ["", "{", "[]", '{"return": 5}', '{"retour": {}}', '{"return": {"pid": "x"}}', "[" * 100000],
)
def test_an_absurd_answer_is_named_as_such(answer):
    """Not a traceback."""
    with pytest.raises(AgentBabbles, match="not what the protocol says"):
        agent({"guest-exec": answer}).start("/sbin/ip", [])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(st.text() | _JSON.map(lambda value: json.dumps({"return": value})))
def test_whatever_the_agent_says_only_its_own_errors_come_of_it(answer):
    """From every command."""
    for ask in (
        lambda a: a.info(),
        lambda a: a.nics(),
        lambda a: a.start("/x", []),
        lambda a: a.result(1),
        lambda a: a.read("/x"),
    ):
        fresh = Agent(lambda *_: answer, time.monotonic() + 0.05)
        try:
            ask(fresh)
        except AgentError:
            continue


_FACTS = st.dictionaries(
    st.sampled_from(
        (
            "ifname",
            "ifindex",
            "flags",
            "mtu",
            "address",
            "link",
            "linkinfo",
            "addr_info",
            "local",
            "prefixlen",
            "family",
            "dst",
            "dev",
            "gateway",
            "table",
            "type",
            "metric",
            "nexthops",
            "metrics",
            "priority",
            "src",
            "srclen",
            "fwmark",
            "lladdr",
            "state",
            "master",
            "mac",
            "vlan",
            "nftables",
            "rule",
            "chain",
            "expr",
        )
    ),
    _JSON | st.sampled_from(["10.0.0.1", "eth0", "52:54:00:00:00:01", 24, 1, ["UP"], "inet"]),
)


@given(st.lists(_FACTS, max_size=3), _JSON, st.text())
def test_a_hostile_guest_breaks_nothing(entries, whole, text):
    """Whatever its programs print: the rest is read, and what makes no sense is a gap."""
    printed = iter([json.dumps(entries), json.dumps(whole), text] * 40)
    commands = [
        {"name": name}
        for name in ("guest-exec", "guest-exec-status", "guest-network-get-interfaces")
    ]
    hostile = agent(
        {
            "guest-info": {"version": text, "supported_commands": commands},
            "guest-network-get-interfaces": [{"name": text, "ip-addresses": []}],
            "guest-exec": {"pid": 1},
            "guest-exec-status": lambda _: {
                "exited": True,
                "exitcode": 0,
                "out-data": b64(next(printed).encode("utf-8", "replace").decode()),
            },
        }
    )
    reading = read_guest("evil", "evil", hostile)
    assert reading.inside.access in ("full", "basic")
    for gap in reading.gaps:
        assert gap.why.isprintable()


def test_an_agent_that_refuses_everything_leaves_a_gap():
    """The guest is there, and nothing is known of it."""

    def refuse(*_):
        raise AgentRefuses("not today")

    reading = read_guest("shy", "shy", Agent(refuse, time.monotonic() + 1))
    assert reading.stack is None
    assert reading.inside.access == "none"
    (gap,) = reading.gaps
    assert (gap.fact, gap.why) == ("all", "not today")
