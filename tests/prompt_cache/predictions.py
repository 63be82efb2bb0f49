"""What a cold cache gives to requests that follow each other."""

from itertools import repeat

from lm_deluge.prompt_cache import Predictor


def predict(requests, model, tools=(), *, started=None, **options):
    """The prompt tokens of each planned request, in the order in which they are sent, all at once unless told when."""
    provider = Predictor(model, tools, **options)
    times = repeat(0.0) if started is None else started
    return [provider.send(conversation, plan, now) for (conversation, plan), now in zip(requests, times, strict=False)]
