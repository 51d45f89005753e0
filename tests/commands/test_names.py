"""Host names given instead of addresses."""

import socket

import pytest

from kvmdiag.commands.names import look_up


def test_a_name_of_the_resolver_becomes_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is taken."""

    def answer(name: str, port: None, family: int, kind: int) -> list[tuple[object, ...]]:
        assert (name, port, family, kind) == (
            "www.example",
            None,
            socket.AF_INET,
            socket.SOCK_STREAM,
        )
        return [(family, kind, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert look_up("www.example", 4) == "192.0.2.1"


def test_a_mistyped_guest_is_not_asked_of_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a dot stays in the house."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked DNS"))
    assert look_up("nodel", None) is None


def test_a_name_nobody_knows_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that fails is no reason to fail."""

    def fail(*_: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert look_up("nobody.invalid", None) is None
