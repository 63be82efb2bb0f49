"""How many items of a run are begun at a time. Pure."""

__all__ = ["Window"]

_MOST_FOR_EACH_SLOT = 4
_MOST_WAITING_FOR_EACH_SLOT = 64


class Window:
    """Counts the items of a run that are begun and not over.

    An item that rests until its retry makes no call; another takes its place meanwhile, but not without end. One that
    waits for another item (its prefix, or its answer) holds nothing but its prompt, so there may be many more of those.

    Args:
        slots: requests in flight at once.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._begun = 0
        self._resting = 0
        self._waiting = 0

    @property
    def may_begin(self) -> bool:
        """Whether another item may be begun."""
        waiting = min(self._waiting, _MOST_WAITING_FOR_EACH_SLOT * self._slots)
        return self._begun - self._resting < self._slots and self._begun - waiting < _MOST_FOR_EACH_SLOT * self._slots

    @property
    def may_go_on(self) -> bool:
        """Whether another item may be begun in the place of one that is over, before that is counted."""
        return self._begun - self._resting <= self._slots

    def begin(self) -> None:
        """An item is begun."""
        self._begun += 1

    def end(self) -> None:
        """An item is over."""
        self._begun -= 1

    def rest(self, change: int) -> None:
        """An item starts to wait for its retry (1), or goes on (-1)."""
        self._resting += change

    def wait(self, change: int) -> None:
        """An item starts to wait for another (1), or goes on (-1)."""
        self._waiting += change
        self._resting += change
