"""What an address says of who can read what is sent to it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_private(url: str) -> bool:
    """Whether what is sent to a URL stays on this machine, or goes encrypted."""
    there = urlsplit(url)
    return there.scheme == "https" or is_loopback(there.hostname or "")
