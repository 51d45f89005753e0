"""A namespace that plays the host, and a guest agent that answers for one."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmdiag.collect.guest_agent import Agent, AgentRefuses
from kvmdiag.system.namespaces import entered

# Where reading, rulesets and netlink_messages are, which several files here import.
sys.path.insert(0, str(Path(__file__).parent))

_ALL = (
    "guest-exec",
    "guest-exec-status",
    "guest-file-open",
    "guest-file-read",
    "guest-file-close",
    "guest-network-get-interfaces",
)


@pytest.fixture
def host(namespaces):
    """A namespace that plays the host."""
    return namespaces("host")


@pytest.fixture
def router(host):
    """A host with br0 up and an address to route from."""
    host.ip(
        "link set lo up",
        "link add br0 up type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 2001:db8::1/64 dev br0 nodad",
    )
    return host


@pytest.fixture
def agent_of():
    """A maker of agents: ``agent_of(namespace, programs={"ip": ...}, commands=(...))``.

    ``programs`` maps names to what is run in their place, ``None`` for what is not installed.
    """

    def make(namespace, *, programs=None, commands=_ALL):
        results = []

        def execute(given):
            name = Path(given["path"]).name
            real = (programs or {}).get(name, shutil.which(name))
            if real is None or str(Path(given["path"]).parent) != "/usr/sbin":
                raise AgentRefuses("Failed to execute child process (No such file or directory)")
            argv = [*real.split(), *given["arg"]]
            with entered(namespace.path):
                # /proc/net is that of the process: it is another's in a namespace of its own.
                script = 'mount -t sysfs sysfs /sys && exec "$@"'
                wrapped = ["unshare", "--mount", "sh", "-c", script, "sh", *argv]
                done = subprocess.run(wrapped, capture_output=True, check=False)
            results.append(done)
            return {"pid": len(results) - 1}

        def status(given):
            done = results[given["pid"]]
            return {
                "exited": True,
                "exitcode": done.returncode,
                "out-data": base64.b64encode(done.stdout).decode(),
                "err-data": base64.b64encode(done.stderr).decode(),
            }

        opened = []

        def open_file(given):
            done = namespace.run(["cat", given["path"]], check=False)
            if done.returncode:
                raise AgentRefuses(f"failed to open file '{given['path']}'")
            opened.append(done.stdout)
            return len(opened) - 1

        def nics(_given):
            told = json.loads(namespace.run("ip -j addr").stdout)
            return [
                {
                    "name": nic["ifname"],
                    "hardware-address": nic["address"],
                    "ip-addresses": [
                        {
                            "ip-address": entry["local"],
                            "ip-address-type": "ipv4" if entry["family"] == "inet" else "ipv6",
                            "prefix": entry["prefixlen"],
                        }
                        for entry in nic["addr_info"]
                    ],
                }
                for nic in told
            ]

        answers = {
            "guest-info": lambda _: {
                "version": "1.0",
                "supported_commands": [{"name": name} for name in commands],
            },
            "guest-exec": execute,
            "guest-exec-status": status,
            "guest-file-open": open_file,
            "guest-file-read": lambda given: {
                "buf-b64": base64.b64encode(opened[given["handle"]].encode()).decode(),
                "eof": True,
            },
            "guest-file-close": lambda _: {},
            "guest-network-get-interfaces": nics,
        }

        def send(command, _seconds):
            asked = json.loads(command)
            if asked["execute"] not in ("guest-info", *commands):
                raise AgentRefuses(f"Command {asked['execute']} has been disabled")
            return json.dumps({"return": answers[asked["execute"]](asked.get("arguments"))})

        return Agent(send, time.monotonic() + 30)

    return make
