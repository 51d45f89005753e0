"""Guests and networks, from libvirt's daemon, from its files, or from QEMU's processes."""
