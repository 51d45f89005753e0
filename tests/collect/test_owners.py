"""Names of namespaces that belong to processes, as people know them."""

from __future__ import annotations

import pytest

from kvmdiag.collect.processes.owners import Holder, owner

_ID = "0123456789ab" + "c" * 52
_UID = "6f9b2c1e-5a51-4b7e-9d7e-3f1a2b3c4d5e"


@pytest.mark.parametrize(
    ("cgroup", "name"),
    [
        (f"0::/system.slice/docker-{_ID}.scope\n", "docker-0123456789ab"),
        (f"12:net_cls:/docker/{_ID}\n0::/\n", "docker-0123456789ab"),
        (f"0::/user.slice/user-1000.slice/libpod-{_ID}.scope/container\n", "podman-0123456789ab"),
        (f"0::/system.slice/nerdctl-{_ID}.scope\n", "containerd-0123456789ab"),
        ("0::/lxc.payload.web\n", "lxc-web"),
        ("8:memory:/lxc/web\n", "lxc-web"),
        ("0::/machine.slice/machine-my\\x2dbox.scope\n", "machine-my-box"),
        ("0::/machine.slice/systemd-nspawn@box.service/payload\n", "machine-box"),
    ],
)
def test_containers_are_known_by_their_runtime(cgroup, name):
    """And by as much of their id as people use; the process is another name."""
    found = owner([Holder(77, "nginx", cgroup)])
    assert (found.name, found.others) == (name, ("nginx-77",))


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods.slice/kubepods-burstable-pod{_UID.replace('-', '_')}"
        f".slice/cri-containerd-{_ID}.scope\n",
        f"11:memory:/kubepods/besteffort/pod{_UID}/{_ID}\n",
        f"0::/kubepods.slice/kubepods-pod{_UID.replace('-', '_')}.slice/crio-{_ID}.scope\n",
    ],
)
def test_pods_are_known_by_their_host_name(cgroup):
    """Which is looked up later; their uid and the container are other names."""
    found = owner([Holder(77, "pause", cgroup)])
    assert (found.name, found.in_pod) == (f"pod-{_UID}", True)
    assert any(name.endswith("-0123456789ab") for name in found.others)


def test_a_launchers_pod_is_known_by_its_virtual_machine():
    """Although its oldest process is another."""
    cgroup = f"0::/kubepods/burstable/pod{_UID}/{_ID}\n"
    launcher = ("/usr/bin/virt-launcher-monitor", "--qemu-timeout", "5m", "--name", "testvm", "")
    found = owner([Holder(7, "pause", cgroup), Holder(8, "virt-launcher-m", cgroup, launcher)])
    assert found.name == "virt-launcher-testvm"
    assert f"pod-{_UID}" in found.others


def test_a_service_is_known_by_its_process_and_its_unit():
    """With its own network (PrivateNetwork=)."""
    found = owner([Holder(77, "upowerd", "0::/system.slice/upower.service\n")])
    assert (found.name, found.others) == ("upowerd-77", ("upower.service",))


def test_hostile_names_are_made_harmless():
    """A process may call itself anything."""
    assert owner([Holder(7, "a;rm -rf\x1b[2J /")]).name == "a_rm_-rf__2J__-7"
    cgroup = "0::/lxc.payload." + "x" * 500
    assert len(owner([Holder(7, "init", cgroup)]).name) < 80
    assert owner([Holder(7, "")]).name == "process-7"
