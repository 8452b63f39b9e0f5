"""Owns this process's way into the lab's network: afterwards ClusterIPs and pods answer it.

Threads inherit the network namespace of the thread that starts them, so this is done once, before
a test starts any.
"""

from __future__ import annotations

import ctypes
import os

from lab.layout import NETNS_FOLDER

CLONE_NEWNET = 0x40000000


def enter_network(namespace: str) -> None:
    """Move the calling thread into a network namespace (as `nsenter --net` does)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(NETNS_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot enter the network {namespace}: {os.strerror(code)}")
    finally:
        os.close(handle)
