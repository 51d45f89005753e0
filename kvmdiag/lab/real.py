"""Starting and removing real guests of a practice network."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from kvmdiag.errors import LabError
from kvmdiag.lab import guest_files, real_daemon
from kvmdiag.lab.as_shell import as_shell
from kvmdiag.lab.image import Image, image
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, guest_xml, nic_xml
from kvmdiag.lab.spec import Shell, Step, namespace
from kvmdiag.model.stack import NAMED_NETNS

_BOOT_SECONDS = 120.0  # they take eight; on a machine with better things to do, longer
_AGENT_SECONDS = 10
_LOOK_SECONDS = 3
_PAUSE = 0.25


def start(network: RealNetwork, label: str) -> None:
    """Start libvirt, its networks and its guests, and wait until all guests have addresses.

    The namespaces must be there. What was started so far is left to the caller if it fails.

    Raises:
        LabError: something that real guests need is missing, or one does not come up.

    """
    made = image()
    place = namespace(label, network.libvirt_in)
    real_daemon.start(label, NAMED_NETNS + place)
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = _connected(label)
        try:
            for xml in network.virtual.values():
                virtual = connection.networkDefineXML(xml)
                virtual.setAutostart(1)
                virtual.create()
            _start_guests(connection, network.guests, label, made)
            _wait(connection, network.guests)
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise LabError(f"libvirt: {error}") from None


def carry_out(step: Step | Shell, network: RealNetwork, label: str) -> None:
    """Carry out a step of a fault where it belongs: beside libvirt, or inside a guest.

    Raises:
        LabError: the last of its commands does not succeed, or a guest does not answer.

    """
    text = as_shell(step)
    if step.machine not in {guest.name for guest in network.guests}:
        real_daemon.shell(label, NAMED_NETNS + namespace(label, step.machine), text)
        return
    _wait_for_agent(label, step.machine)
    code, said = output_inside(label, step.machine, "/bin/sh", "-ec", f"exec 2>&1\n{text}")
    if code:
        complaint = (said.strip() or f"a shell inside ended with exit code {code}").splitlines()[-1]
        raise LabError(f"{step.machine}: {complaint}")


def agent(label: str, guest: str, command: str, **arguments: Any) -> Any:
    """What the agent inside a guest returns to one command.

    Raises:
        LabError: it does not answer, or refuses.

    """
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.open(real_daemon.uri(label))
        try:
            return _ask(connection.lookupByName(guest), command, arguments, _AGENT_SECONDS)
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise LabError(f"{guest}: {error}") from None


def run_inside(label: str, guest: str, *argv: str, seconds: float = 20) -> int:
    """Run a program inside a guest to its end; its exit code.

    Raises:
        LabError: the agent does not answer, or the program does not end in time.

    """
    return output_inside(label, guest, *argv, seconds=seconds)[0]


def output_inside(label: str, guest: str, *argv: str, seconds: float = 20) -> tuple[int, str]:
    """Run a program inside a guest to its end; its exit code and what it printed.

    Raises:
        LabError: the agent does not answer, or the program does not end in time.

    """
    asked = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    started = agent(label, guest, "guest-exec", **asked)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = agent(label, guest, "guest-exec-status", pid=started["pid"])
        if status["exited"]:
            printed = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
            return int(status.get("exitcode", -1)), printed
        time.sleep(_PAUSE / 2)
    raise LabError(f"{argv[0]} in {guest} did not end within {seconds:g} s")


def _start_guests(connection: Any, guests: tuple[RealGuest, ...], label: str, made: Image) -> None:
    """Start all guests; NICs plugged in by hand get their taps after all others.

    Until then the guests' processors stand still, so that they find all NICs when they boot.
    """
    import libvirt

    domains = []
    for guest in guests:
        domain = connection.defineXML(_domain(guest, label, made))
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        domains.append(domain)
    for guest, domain in zip(guests, domains, strict=True):
        for nic in guest.nics:
            if nic.by_hand:
                domain.attachDevice(nic_xml(nic))
    for domain in domains:
        domain.resume()


def _wait_for_agent(label: str, guest: str) -> None:
    """Until a guest that boots can be spoken to."""
    end = time.monotonic() + _BOOT_SECONDS
    while True:
        try:
            agent(label, guest, "guest-ping")
            return
        except LabError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)


def _domain(guest: RealGuest, label: str, made: Image) -> str:
    """The guest's XML; its own files are appended to the first file system that all share."""
    home = real_daemon.folder(label)
    initrd = home / "lib" / f"{guest.name}.initrd"
    own = guest_files.own(guest.name, {nic.mac: nic.name for nic in guest.nics}, guest.setup)
    initrd.write_bytes(made.initrd.read_bytes() + own)
    # The guest's process sees the folder of logs where libvirt has it.
    log = f"/var/log/libvirt/{guest.name}.console"
    return guest_xml(guest, str(made.kernel), f"/var/lib/libvirt/{initrd.name}", log)


def _connected(label: str) -> Any:
    import libvirt

    end = time.monotonic() + _BOOT_SECONDS
    while True:
        try:
            return libvirt.open(real_daemon.uri(label))
        except libvirt.libvirtError:
            if time.monotonic() > end or not real_daemon.running(label):
                raise
            time.sleep(_PAUSE / 5)


def _wait(connection: Any, guests: tuple[RealGuest, ...]) -> None:
    end = time.monotonic() + _BOOT_SECONDS
    waiting = list(guests)
    while waiting:
        waiting = [guest for guest in waiting if not _is_up(connection, guest)]
        if waiting and time.monotonic() > end:
            names = ", ".join(guest.name for guest in waiting)
            raise LabError(f"{names}: no addresses within {_BOOT_SECONDS:g} s after the start")
        time.sleep(_PAUSE if waiting else 0)


def _is_up(connection: Any, guest: RealGuest) -> bool:
    """Whether its setup is through and each NIC has an IPv4 address, by what the agent says."""
    import libvirt

    domain = connection.lookupByName(guest.name)
    try:
        nics = _ask(domain, "guest-network-get-interfaces", {})
        handle = _ask(domain, "guest-file-open", {"path": guest_files.READY, "mode": "r"})
        _ask(domain, "guest-file-close", {"handle": handle})
    except libvirt.libvirtError:
        return False
    having = {
        nic["name"]
        for nic in nics
        for address in nic.get("ip-addresses", ())
        if address["ip-address-type"] == "ipv4"
    }
    return having >= {nic.name for nic in guest.nics if not nic.idle}


def _ask(domain: Any, command: str, arguments: dict[str, Any], seconds: int = _LOOK_SECONDS) -> Any:
    import libvirt_qemu

    text = json.dumps({"execute": command, "arguments": arguments})
    return json.loads(libvirt_qemu.qemuAgentCommand(domain, text, seconds, 0))["return"]
