"""Archives for guests, as cpio(1) itself or the kernel's rules understand them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest

from kvmdiag.lab import cpio, guest_files


@pytest.fixture
def unpacked(tmp_path):
    """A function that unpacks an archive by cpio(1) and gives the folder."""
    busybox = shutil.which("busybox")
    command = ["cpio"] if shutil.which("cpio") else [busybox, "cpio"] if busybox else None
    if command is None:
        pytest.skip("needs cpio")

    def unpack(data):
        subprocess.run(
            [*command, "-idu"], input=data, cwd=tmp_path, check=True, capture_output=True
        )
        return tmp_path

    return unpack


def test_files_links_and_folders_come_out_as_they_went_in(unpacked):
    """Of any length, executable or not; folders need not be named."""
    there = unpacked(
        cpio.archive(
            {
                "a/b/one": cpio.file(b"1", executable=True),
                "a/four": cpio.file(b"four"),
                "a/link": cpio.link("b/one"),
                "empty": cpio.file(b""),
            }
        )
    )
    assert (there / "a/b/one").read_bytes() == b"1"
    assert os.access(there / "a/b/one", os.X_OK)
    assert (there / "a/four").read_bytes() == b"four"
    assert not stat.S_IXUSR & (there / "a/four").stat().st_mode
    assert os.readlink(there / "a/link") == "b/one"
    assert (there / "empty").read_bytes() == b""


def test_a_guest_gets_its_name_its_nics_and_its_setup(unpacked):
    """NICs by MAC address, one a line, as the boot script reads them."""
    own = guest_files.own("web", {"52:54:00:00:00:77": "ens3"}, "echo hello\n")
    there = unpacked(own)
    assert (there / "etc/hostname").read_text() == "web\n"
    assert (there / "etc/nics").read_text() == "52:54:00:00:00:77 ens3\n"
    assert (there / "etc/setup").read_text() == "echo hello\n"


def test_archives_are_aligned_so_that_they_can_be_joined():
    """The kernel unpacks one after the other from one file."""
    for length in range(8):
        assert len(cpio.archive({"x": cpio.file(b"x" * length)})) % 4 == 0
