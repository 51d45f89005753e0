"""A program that does not do its duty: every command says so, and takes nothing for well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import run

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces"),
]

PATH = ("node1", "10.0.0.9")
ALL = ("nft", "iptables-nft-save", "ip6tables-nft-save", "ebtables-nft-save", "unshare")
# What nft does instead (``None``: it is not there), and what is said of it.
FAILURES = {
    "is missing": (None, "nft is not installed; install nftables"),
    "fails": ('echo "out of \033[31m memory" >&2; exit 1', "out of \\x1b[31m memory"),
    "breaks off": ('{real} "$@" | head -c 40', "nft printed no ruleset"),
    "prints nothing": ("exit 0", "nft printed no ruleset"),
    "never ends": ("exec sleep 60", "nft did not end within 0.5 s"),
}


@pytest.fixture(scope="module")
def net() -> Iterator[str]:
    """A cluster whose host has a table that nft alone can tell."""
    label = manager.up("cluster", label=f"unread{os.getpid()}")
    try:
        with entered(manager.scope(label).host):
            assert run(["nft", "add", "table", "inet", "mine"]).returncode == 0
        yield label
    finally:
        manager.down(label)


@pytest.fixture
def nft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str | None], None]:
    """Put a script in the place of nft, or nothing."""

    def instead(script: str | None) -> None:
        real = {name: shutil.which(name) for name in (*ALL, "sh", "head", "sleep")}
        for name, path in real.items():
            if name != "nft":
                (tmp_path / name).symlink_to(str(path))
        if script is not None:
            text = script.format(real=real["nft"]) if "{real}" in script else script
            (tmp_path / "nft").write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / "nft").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return instead


Told = Callable[..., str]


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Told:
    """What a command line says; it must end with that code, and without a traceback."""

    def say(code: int, *words: str) -> str:
        assert main(list(words)) == code
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return " ".join((out + err).split())

    return say


@pytest.mark.parametrize("failure", FAILURES)
def test_rules_that_nft_does_not_tell(
    net: str,
    nft: Callable[[str | None], None],
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
) -> None:
    """What becomes of a packet is unknown, and why is said."""
    script, said = FAILURES[failure]
    nft(script)
    if failure == "never ends":
        monkeypatch.setattr("kvmdiag.system.programs.SECONDS", 0.5)
    assert said in told(3, "--lab", net, "check", *PATH)


def test_every_command_says_what_is_missing(
    net: str, nft: Callable[[str | None], None], told: Told, tmp_path: Path
) -> None:
    """Be it live, from a file, or compared with what was read before."""
    before, after = (str(tmp_path / name) for name in ("before.kvm", "after.kvm"))
    told(0, "--lab", net, "snapshot", "-q", "-o", before)
    nft(None)
    said = "nft is not installed; install nftables"
    assert said in told(3, "--lab", net, "check")
    assert said in told(0, "--lab", net, "graph")
    assert said in told(0, "--lab", net, "snapshot", "-o", after)
    assert said in told(3, "--snapshot", after, "check", *PATH)
    assert "Cannot be told any more" in told(3, "diff", before, after)
