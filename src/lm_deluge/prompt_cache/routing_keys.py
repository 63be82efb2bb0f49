"""Routing keys, and how requests are spread over them.

A key keeps requests with one prefix on one machine, which takes so many a minute and sends the rest elsewhere. So a
prefix gets another key for each such many, and no more: every key is a cache of its own that has to be filled.
"""

import math
import threading

from lm_deluge._locks import renewed
from lm_deluge.prompt_cache.planner import CachePlan

__all__ = ["RoutingKeys"]

_SECONDS = 60.0
_CAPACITY = 16_384


class RoutingKeys:
    """Counts requests a minute by their key. Shared by a client's runs, in all threads.

    Requests of a minute fill the first key, then the second, and so on; the next minute begins with the first again,
    which is warm.
    """

    def __init__(self) -> None:
        self._lock = renewed(threading.Lock())
        self._minutes: dict[str, tuple[float, int]] = {}  # when the key's minute began, and the requests since

    def __len__(self) -> int:
        """Keys that are known."""
        return len(self._minutes)

    def spread(self, plan: CachePlan, limit: float | None, now: float, *, rate: float = math.inf) -> CachePlan:
        """A plan with the routing key whose turn it is; without a key nothing changes. See ``pick``."""
        if plan.prompt_cache_key is None:
            return plan
        return plan.with_shard(self.pick(plan.prompt_cache_key, limit, now, rate=rate))

    def pick(self, key: str, limit: float | None, now: float, *, rate: float = math.inf) -> int:
        """The shard that a request goes to, from 0.

        Requests are counted before they wait for the client's own limits, so those that cannot go out within the minute
        are counted too; ``rate`` keeps them on the keys that are needed.

        Args:
            key: the key of its prefix.
            limit: requests a minute that one key takes; None for any number.
            now: seconds on a clock that only goes forward.
            rate: requests like this one that can be sent in a minute at most.
        """
        if limit is None:
            return 0
        with self._lock:
            began, count = self._minutes.get(key, (now, 0))
            if now - began >= _SECONDS:
                began, count = now, 0
            self._minutes[key] = (began, count + 1)
            if len(self._minutes) > _CAPACITY:
                self._forget(now)
        shard = int(count // limit)
        return shard if math.isinf(rate) else shard % max(1, math.ceil(rate / limit))

    def _forget(self, now: float) -> None:
        """Drop the keys whose minute is over, and where that is not enough the older half."""
        self._minutes = {key: each for key, each in self._minutes.items() if now - each[0] < _SECONDS}
        for key in list(self._minutes)[: max(0, len(self._minutes) - _CAPACITY // 2)]:
            del self._minutes[key]
