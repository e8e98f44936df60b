"""Resident memory of this process in MiB, from /proc; None where there is none."""

import ctypes
import gc


def release() -> None:
    """Gives the memory that no tensor holds back to the system, so that it counts as the work's when the work takes it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_peak() -> bool:
    """Makes the present level the peak so far; whether the system can."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def resident(field: str) -> float | None:
    """`VmRSS`, the present level, or `VmHWM`, the peak."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
