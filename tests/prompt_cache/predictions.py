"""What a cold cache gives to requests that follow each other."""

from collections import deque
from itertools import repeat

from lm_deluge.prompt_cache import Predictor


def predict(requests, model, tools=(), *, started=None, at_once=1, **options):
    """The prompt tokens of each planned request, in the order in which they are sent, all at once unless told when.

    ``at_once`` are in flight at a time: what one writes can be read by the one that comes so many later.
    """
    provider = Predictor(model, tools, **options)
    under_way = deque()
    usages = []
    for (conversation, plan), now in zip(requests, repeat(0.0) if started is None else started, strict=False):
        if len(under_way) == at_once:
            provider.publish(*under_way.popleft())
        usage, entries = provider.look_up(conversation, plan, now)
        under_way.append((entries, now))
        usages.append(usage)
    return usages
