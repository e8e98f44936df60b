"""Resident memory of this process in MiB, from /proc; None where there is none."""


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
