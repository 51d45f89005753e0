"""The story that scripts/demo shows. Every claim is checked; the first that fails ends it.

What a person reads comes from the commands themselves, as anybody would run them. What is
checked comes from their exit codes, from their JSON and from real pings. With --real master and
node1 are virtual machines of a libvirt; pings and repairs inside them go by the guest agent.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

TARGET = "10.0.0.9"
LAB = f"demo-{os.getpid()}"
REAL = "--real" in sys.argv[1:]
NINE_INTERFACES = (
    ("node1", "ens6"),
    ("host", "vnet3"),
    ("host", "mybr0"),
    ("host", "vnet2"),
    ("master", "ens6"),
    ("master", "ens3"),
    ("host", "vnet0"),
    ("host", "virbr0"),
    ("host", "eno1"),
)
# Inside a virtual machine nobody captures.
INTERFACES = tuple(place for place in NINE_INTERFACES if not REAL or place[0] == "host")


class NotAsClaimedError(Exception):
    """Something did not happen as the demo says it does."""


def claim(true: object, otherwise: str) -> None:
    """Go on only if it is true."""
    if not true:
        raise NotAsClaimedError(otherwise)


def act(title: str) -> None:
    """Head the next part of the story."""
    print(f"\n\033[1m=== {title}\033[0m" if sys.stdout.isatty() else f"\n=== {title}")


def show(*command: str, expect: int = 0) -> None:
    """Run a command for the reader's eyes; it must end with the expected exit code."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    claim(code == expect, f"{shlex.join(command)} ended with exit code {code}, not {expect}")


def ask(*command: str, expect: int = 0) -> Any:
    """Run a kvmdiag command for its JSON; it must end with the expected exit code."""
    full = (*kvmdiag(*command), "--format", "json")
    done = subprocess.run(full, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    claim(
        done.returncode == expect,
        f"{shlex.join(full)} ended with exit code {done.returncode}, not {expect}",
    )
    return json.loads(done.stdout)


def kvmdiag(*arguments: str) -> tuple[str, ...]:
    """A command line that runs inside the practice network's host."""
    return ("kvmdiag", "--lab", LAB, *arguments)


def ping(*options: str, answers: bool) -> None:
    """Ping the outside from node1 for real; it must be answered, or must not be."""
    if REAL:
        code, printed = inside("node1", "ping", *options, "-q", "-c", "3", "-W", "1", TARGET)
    else:
        ping = ("ping", *options, "-n", "-q", "-c", "3", "-i", "0.3", "-W", "1", TARGET)
        command = ("ip", "netns", "exec", f"kvmdiag-{LAB}-node1", *ping)
        print(f"\n$ {shlex.join(command)}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        code, printed = done.returncode, done.stdout or done.stderr
    summary = [line for line in printed.splitlines() if "transmitted" in line]
    print("".join(summary) or printed.strip())
    claim(code == (0 if answers else 1), f"the ping was {'not ' if answers else ''}answered")


def inside(guest: str, *command: str) -> tuple[int, str]:
    """What its owner types inside a virtual machine: exit code, and what was printed."""
    from kvmdiag.lab import real

    print(f"\n{guest}$ {shlex.join(command)}")
    return real.output_inside(LAB, guest, "/bin/env", *command)


def finding(report: Any, check: str) -> Any:
    """What the report says of a check; it must be a cause with a fix proved in simulation."""
    claim(report["verdict"] == "faulty", f"the verdict is {report['verdict']}, not faulty")
    causes = {found["check"]: found for found in report["findings"] if found["role"] == "cause"}
    claim(set(causes) == {check}, f"the causes named are {sorted(causes) or 'none'}, not {check}")
    claim(causes[check]["verified"] is True, f"the fix of {check} is not verified")
    return causes[check]


def seen(hops: Iterable[Any], direction: str) -> dict[tuple[str, str], set[str]]:
    """Source addresses the probe really carried, by stack and link, in one direction."""
    sources: dict[tuple[str, str], set[str]] = {}
    for hop in hops:
        if hop["seen"] and hop["direction"] == direction:
            sources.setdefault((hop["stack"], hop["link"]), set()).add(hop["packet"]["src"])
    return sources


def as_predicted(trace: Any) -> None:
    """The real packet went where the walk said it would."""
    news = trace["probe"]["disagreement"]
    claim(news is None, f"the probe went another way than predicted: {news}")


def healthy() -> None:
    """A network on which all is well."""
    act("A healthy cluster: node1 reaches the outside through master and the host")
    show("kvmdiag", "lab", "up", "cluster", *(("--real",) if REAL else ()), "--as", LAB)
    show(*kvmdiag("check", "node1", TARGET))
    report = ask("check", "node1", TARGET)
    claim(report["verdict"] == "healthy", f"the verdict is {report['verdict']}, not healthy")
    ping(answers=True)


def broken_and_cured() -> None:
    """A fault is injected, named, cured, and the cure is tried by a real packet."""
    act("Broken: bridged frames meet a FORWARD chain that drops them")
    show("kvmdiag", "lab", "break", LAB, "bridge-nf-forward-drop")
    ping(answers=False)
    show(*kvmdiag("check", "node1", TARGET), expect=1)
    finding(ask("check", "node1", TARGET, expect=1), "bridge-nf-forward-drop")

    act("Cured: the fix is carried out and tried")
    show(*kvmdiag("fix", "node1", TARGET, "--yes"))
    ping(answers=True)


def traced() -> None:
    """A live probe passes all nine interfaces, and its source is rewritten twice."""
    where = "the host's six" if REAL else "all nine"
    act(f"Traced: a real packet on {where} interfaces, its source rewritten twice")
    show(*kvmdiag("trace", "node1", TARGET))
    trace = ask("trace", "node1", TARGET)
    claim(trace["probe"]["answer"], "the probe got no answer")
    as_predicted(trace)
    sources = seen(trace["hops"], "request")
    for place in INTERFACES:
        claim(place in sources, f"the probe was not seen on {place[0]} {place[1]}")
    for place, source in (
        (("host", "vnet3"), "192.168.48.20"),
        (("host", "vnet0"), "192.168.122.236"),
        (("host", "eno1"), "10.0.0.10"),
    ):
        claim(source in sources[place], f"{source} was not seen on {place[0]} {place[1]}")


def cold_case() -> None:
    """Every interface shows the reply, and yet ping hears nothing."""
    act("The cold case: node1 gets a second NIC, and pings through it go unanswered")
    show("kvmdiag", "lab", "mend", LAB)
    show("kvmdiag", "lab", "break", LAB, "guest-rp-filter-multihomed")
    ping("-I", "ens3", answers=False)
    show(*kvmdiag("trace", "node1:ens3", TARGET), expect=1)
    trace = ask("trace", "node1:ens3", TARGET, expect=1)
    claim(trace["probe"]["answer"] is None, "the probe was answered")
    as_predicted(trace)
    last = ("host", "vnet1") if REAL else ("node1", "ens3")
    claim(last in seen(trace["hops"], "reply"), f"the reply never came to {' '.join(last)}")
    end = trace["dropped_at"] or {}
    claim(
        (end.get("stack"), end.get("link")) == ("node1", "ens3"),
        f"the reply is said to be lost at {end}, not at node1 ens3",
    )
    show(*kvmdiag("check", "node1:ens3", TARGET), expect=1)
    report = ask("check", "node1:ens3", TARGET, expect=1)
    finding(report, "guest-rp-filter-multihomed")
    if REAL:
        typed_inside(report)
    show(*kvmdiag("fix", "node1:ens3", TARGET, "--yes"))
    ping("-I", "ens3", answers=True)


def typed_inside(report: Any) -> None:
    """A repair inside a virtual machine is its owner's to type; ``fix`` says what."""
    show(*kvmdiag("fix", "node1:ens3", TARGET, "--yes"), expect=2)
    for step in report["plan"]["steps"]:
        claim(step["where"] == "inside node1", f"a step is for {step['where']}, not inside node1")
        code, printed = inside("node1", *shlex.split(step["command"]))
        claim(code == 0, f"it did not succeed inside node1: {printed}")


def main() -> int:
    """Tell the story; whatever happens, the practice network is gone afterwards."""
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.default_int_handler)
    started = time.monotonic()
    try:
        for part in (healthy, broken_and_cured, traced, cold_case):
            part()
    except NotAsClaimedError as error:
        sys.stdout.flush()
        print(f"demo: not as claimed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    finally:
        subprocess.run(("kvmdiag", "lab", "down", LAB), capture_output=True, check=False)
    act(f"All as claimed, in {time.monotonic() - started:.0f} seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
