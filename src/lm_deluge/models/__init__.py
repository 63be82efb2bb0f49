"""Names of models: where and how their requests go, what they take, and what they cost."""

from lm_deluge.models.caching import Caching
from lm_deluge.models.names import Model, resolve
from lm_deluge.models.prices import rates_for
from lm_deluge.models.rates import Rates
from lm_deluge.models.services import SERVICES, Service, credential, is_elsewhere, is_here

__all__ = [
    "SERVICES",
    "Caching",
    "Model",
    "Rates",
    "Service",
    "credential",
    "is_elsewhere",
    "is_here",
    "rates_for",
    "resolve",
]
