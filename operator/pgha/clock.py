"""The clock of the law: CLOCK_BOOTTIME, which goes on while the machine is suspended."""

import time
from pathlib import Path


def boottime() -> float:
    """Seconds since boot, suspended time included; comparable only within one boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Changes with each boot: CLOCK_BOOTTIME of one boot says nothing in another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
