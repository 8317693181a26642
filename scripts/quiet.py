"""Whether other programs hold the cores: a time that was measured beside them says little."""

import os
from pathlib import Path


class Others:
    """What other programs take of the machine from now on."""

    def __init__(self):
        self._before = self._now()

    @staticmethod
    def _now():
        """Seconds that all cores were busy, and seconds that this process and its children were."""
        try:
            words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return None
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, words)
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        *own, elapsed = os.times()
        return busy, sum(own), elapsed

    def cores(self):
        """Return how many cores others kept busy since; 0 where the system does not say."""
        after = self._now()
        if after is None:
            return 0.0
        busy, own, elapsed = (now - then for now, then in zip(after, self._before, strict=True))
        return max(0.0, busy - own) / max(elapsed, 0.01)
