"""Netfilter: which rules a packet matches at a hook, and what they do to it."""
