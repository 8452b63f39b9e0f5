"""The clock of the law: CLOCK_BOOTTIME, which goes on while the machine is suspended."""

import time


def boottime() -> float:
    """Seconds since boot, suspended time included; comparable only within one boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
