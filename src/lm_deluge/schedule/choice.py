"""Which of several models gets the next prompt."""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from lm_deluge.errors import ConfigError

__all__ = ["Choice"]

T = TypeVar("T")


class Choice(Generic[T]):
    """A weighted choice that prefers what is not paused.

    Raises:
        ConfigError: nothing to choose from, or weights that do not fit.
    """

    def __init__(self, options: Sequence[T], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(options) if weights is None else list(weights)
        if not options:
            raise ConfigError("No model is given; name at least one.")
        if len(weights) != len(options) or min(weights) < 0 or not sum(weights) > 0:
            raise ConfigError(f"model_weights={weights} does not fit {len(options)} models; give one each, not all 0.")
        self._options = tuple(options)
        self._weights = tuple(weights)
        self._cumulative = tuple(accumulate(weights))

    def pick(self, rng: random.Random, *, is_paused: Callable[[T], bool] = lambda _: False) -> T:
        """One option, by weight, among those that are not paused; among all if all are."""
        if len(self._options) == 1:
            return self._options[0]
        free = [
            (option, weight)
            for option, weight in zip(self._options, self._weights, strict=True)
            if weight and not is_paused(option)
        ]
        if len(free) in (0, len(self._options)):
            return rng.choices(self._options, cum_weights=self._cumulative)[0]
        return rng.choices([option for option, _ in free], [weight for _, weight in free])[0]
