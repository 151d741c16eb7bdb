"""How much memory there is."""

import os
from pathlib import Path

# Of version 2 and of version 1 of control groups, which containers are limited by.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_at_hand() -> int:
    """Bytes of memory of this machine, or of this container if that is less; what others use is not subtracted.

    Example:
        >>> memory_at_hand() / 2**30
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        text = Path(path).read_text().strip() if os.path.isfile(path) else ""
        if text.isdigit():
            limits.append(int(text))
    return min(limits)
