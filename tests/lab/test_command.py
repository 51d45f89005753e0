"""``kvmdiag lab``: one line for every mistake, and what there is, for people and programs."""

import json
import os

import pytest

from kvmdiag.commands.main import main
from kvmdiag.errors import LabError
from kvmdiag.lab import state


def lines(text):
    """What was printed, by line."""
    return text.splitlines()


def test_list_shows_networks_and_faults(capsys):
    """Each fault has a sentence; decoys are told apart."""
    assert main(["lab", "list"]) == 0
    out = capsys.readouterr().out
    assert "cluster" in out
    assert "bridge-nf-forward-drop" in out
    assert out.index("Harmless") < out.index("second-nic")


def test_list_as_json(capsys):
    """One object with all that the text says."""
    assert main(["lab", "list", "cluster", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["schema"] == "kvmdiag.lab/1"
    (network,) = listed["networks"]
    faults = {fault["name"]: fault for fault in network["faults"]}
    assert faults["ip-forward-off@master"]["check"] == "ip-forward-off"
    assert faults["decoys"]["harmless"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "nothing"], "no practice network is called 'nothing'"),
        (["up", "nothing"], "there are: cluster"),
        (["up", "cluster", "--as", "../x"], "is no name for a practice network"),
        (["up", "nothing", "--real"], "no practice network is called 'nothing'"),
        (["up", "libvirt-nat"], "libvirt-nat needs real guests"),
        (["down", "../x"], "is no name for a practice network"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, says):
    """On standard error, with exit code 2."""
    assert main(["lab", *arguments]) == 2
    (line,) = lines(capsys.readouterr().err)
    assert says in line


@pytest.mark.parametrize(
    "arguments",
    [["up", "cluster"], ["down", "cluster"], ["break", "cluster", "decoys"], ["mend", "cluster"]],
)
def test_without_root(capsys, monkeypatch, arguments):
    """One line that can be pasted."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["lab", *arguments]) == 2
    (line,) = lines(capsys.readouterr().err)
    assert line.endswith(f"run it as root: sudo kvmdiag lab {' '.join(arguments)}")


def test_whether_it_stands_is_unknown_without_root(capsys, monkeypatch):
    """What may not be read is not called absent."""

    def refuse(_path):
        raise PermissionError

    monkeypatch.setattr(state.os, "listdir", refuse)
    assert main(["lab", "list", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"][0]["standing"] is None


@pytest.mark.kernel
def test_a_whole_life(capsys, label, monkeypatch):
    """Up, break, mend, down, each with one line that says what to do next.

    A damaged file of another network does not matter.
    """

    def damaged():
        raise LabError("another.json is damaged")

    name = label()
    with monkeypatch.context() as patched:
        patched.setattr(state, "read_all", damaged)
        assert main(["lab", "up", "cluster", "--as", name]) == 0
    assert f"kvmdiag --lab {name} check node1 10.0.0.9" in capsys.readouterr().out
    assert main(["lab", "break", name, "ip-forward-off"]) == 0
    assert f"kvmdiag lab mend {name} ip-forward-off@master" in capsys.readouterr().out
    assert main(["lab", "list"]) == 0
    assert f"{name} (ip-forward-off@master)" in " ".join(capsys.readouterr().out.split())
    assert main(["lab", "mend", name]) == 0
    assert capsys.readouterr().out == f"{name}: ip-forward-off@master undone.\n"
    assert main(["lab", "--help"]) == 0
    assert main(["lab", "down", "-q", name]) == 0
    assert "gone" not in capsys.readouterr().out.replace("undone", "")
