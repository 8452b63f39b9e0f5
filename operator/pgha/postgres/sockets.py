"""What the kernel knows of a process's TCP connections: when the other side was last heard.

Source: sock_diag(7), as `ss -ti` uses it, open to every user; the layout of tcp_info is that of
linux/tcp.h, whose first fields never change. Only sockets of this network namespace are seen.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_INFO = 2  # INET_DIAG_INFO
_ESTABLISHED = 1 << 1
_HEAD, _BODY = 16, 72  # bytes of nlmsghdr and inet_diag_msg
_INODE_AT = 68
_LAST_DATA_AT = 52  # tcpi_last_data_recv, milliseconds; tcpi_last_ack_recv follows it


def of_process(pid: int) -> frozenset[int]:
    """The inodes of a process's sockets; empty when it is gone. Raises OSError if not allowed."""
    found = set()
    try:
        for fd in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(fd.path)
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    except FileNotFoundError:
        pass  # the process, or one of its files, has gone meanwhile
    return frozenset(found)


def heard_ago(inodes: frozenset[int]) -> float | None:
    """Seconds since anything - data, or an acknowledgement - came on the established TCP
    connections among these sockets; None when there is none. Raises OSError."""
    ages = [
        age for family in (socket.AF_INET, socket.AF_INET6)
        for inode, age in _established(family) if inode in inodes
    ]
    return min(ages, default=None)


def _established(family: int) -> Iterator[tuple[int, float]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC,
                       _SOCK_DIAG) as asked:
        asked.settimeout(1.0)
        wanted = struct.pack(
            "=BBBxI48x", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _ESTABLISHED
        )
        asked.send(
            struct.pack("=IHHII", _HEAD + len(wanted), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + wanted
        )
        while True:
            part = asked.recv(1 << 16)
            at = 0
            while at + _HEAD <= len(part):
                length, kind = struct.unpack_from("=IH", part, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", part, at + _HEAD)[0]
                    raise OSError(number, f"the kernel lists no sockets: {os.strerror(number)}")
                found = _parsed(part[at + _HEAD : at + length])
                if found is not None:
                    yield found
                at += (length + 3) & ~3


def _parsed(message: bytes) -> tuple[int, float] | None:
    """Inode and age of one inet_diag_msg with its attributes."""
    (inode,) = struct.unpack_from("=I", message, _INODE_AT)
    at = _BODY
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _INFO and length >= 4 + _LAST_DATA_AT + 8:
            return inode, min(struct.unpack_from("=II", message, at + 4 + _LAST_DATA_AT)) / 1000
        at += max(4, (length + 3) & ~3)
    return None
