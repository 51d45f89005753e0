"""A namespace that plays the host, and a guest agent that answers for one."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from kvmdiag.collect.guest.agent import Agent, AgentRefuses
from kvmdiag.system.namespaces import entered

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
        guest = _Guest(namespace, programs or {}, commands)
        return Agent(guest.send, time.monotonic() + 30)

    return make


class _Guest:
    """Answers as the agent in a guest would, for a namespace."""

    def __init__(self, namespace, programs, commands):
        self._namespace = namespace
        self._programs = programs
        self._commands = commands
        self._results = []
        self._opened = []

    def send(self, command, _seconds):
        """The answer to a command, as JSON."""
        asked = json.loads(command)
        name = asked["execute"]
        if name not in ("guest-info", *self._commands):
            raise AgentRefuses(f"Command {name} has been disabled")
        answer = getattr(self, "_" + name.removeprefix("guest-").replace("-", "_"))
        return json.dumps({"return": answer(asked.get("arguments"))})

    def _info(self, _given):
        commands = [{"name": name} for name in self._commands]
        return {"version": "1.0", "supported_commands": commands}

    def _exec(self, given):
        path = Path(given["path"])
        real = self._programs.get(path.name, shutil.which(path.name))
        if real is None or str(path.parent) != "/usr/sbin":
            raise AgentRefuses("Failed to execute child process (No such file or directory)")
        argv = [*real.split(), *given["arg"]]
        with entered(self._namespace.path):
            # /proc/net is that of the process: it is another's in a namespace of its own.
            script = 'mount -t sysfs sysfs /sys && exec "$@"'
            wrapped = ["unshare", "--mount", "sh", "-c", script, "sh", *argv]
            done = subprocess.run(wrapped, capture_output=True, check=False)
        self._results.append(done)
        return {"pid": len(self._results) - 1}

    def _exec_status(self, given):
        done = self._results[given["pid"]]
        return {
            "exited": True,
            "exitcode": done.returncode,
            "out-data": base64.b64encode(done.stdout).decode(),
            "err-data": base64.b64encode(done.stderr).decode(),
        }

    def _file_open(self, given):
        done = self._namespace.run(["cat", given["path"]], check=False)
        if done.returncode:
            raise AgentRefuses(f"failed to open file '{given['path']}'")
        self._opened.append(done.stdout)
        return len(self._opened) - 1

    def _file_read(self, given):
        content = self._opened[given["handle"]].encode()
        return {"buf-b64": base64.b64encode(content).decode(), "eof": True}

    def _file_close(self, _given):
        return {}

    def _network_get_interfaces(self, _given):
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
            for nic in json.loads(self._namespace.run("ip -j addr").stdout)
        ]
