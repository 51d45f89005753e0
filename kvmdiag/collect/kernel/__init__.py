"""What the kernel says of one network namespace: netlink, /proc and /sys."""
