"""Guests without any libvirt: from how QEMU was started."""

from __future__ import annotations

import pytest

from kvmdiag.collect.libvirt.qemu_processes import parse_command
from kvmdiag.model.libvirt import Domain, GuestNic


@pytest.mark.parametrize(
    "words",
    [
        ["-netdev", "tap,fd=33,id=n0", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0A"],
        [
            "-netdev",
            '{"type":"tap","fd":"33","id":"n0"}',
            "-device",
            '{"driver":"virtio-net-pci","netdev":"n0","mac":"52:54:00:00:00:0A"}',
        ],
        [
            "-netdev",
            "tap,ifname=vnet3,id=n0",
            "-device",
            "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0a",
        ],
    ],
)
def test_a_guest_from_the_command_line_of_its_qemu(words):
    """Old and new notation; the tap by its name or by the descriptor."""
    taps = {"33": "vnet3"}
    guest = parse_command(
        ["/usr/bin/qemu-system-x86_64", "-name", "guest=web,x=on", *words], taps.get
    )
    assert guest == Domain(
        name="web",
        state="running",
        nics=(
            GuestNic(
                type="ethernet", mac="52:54:00:00:00:0a", target="vnet3", model="virtio-net-pci"
            ),
        ),
    )
