"""Every exception and warning this package raises.

::

    LMDelugeError
    ├── ConfigError            (ValueError)  a setting has no meaning: an unknown pattern, a negative limit
    │   └── UnknownModelError                the provider of a model name cannot be told
    ├── PromptError            (ValueError)  a prompt cannot be sent as it is
    │   └── MediaError                       an image or a file cannot be read
    ├── CacheError                           a cache cannot be opened or used
    │   ├── CacheFileError                   not a cache file, truncated, or not writable
    │   ├── CacheVersionError                written by another version of this package
    │   ├── DamagedEntryError                one stored entry does not decode; treated as a miss
    │   └── CacheMissError     (LookupError)     an offline run has no answer for a prompt
    ├── ClosedError                          the client or the cache was closed before this was asked
    ├── ProtocolError                        a provider's answer does not have the documented shape
    ├── UnavailableError                     a provider has not answered for so long that it is not asked any more
    └── TransportError                       the request did not get an HTTP answer
        ├── ConnectError                     no connection could be made
        ├── RequestTimeout     (TimeoutError)  the time limit passed before the answer was complete
        └── ConnectionDropped                the peer closed the connection before the answer was complete

    LMDelugeWarning            (UserWarning)
    ├── CacheWarning                         the cache did less than asked: a damaged row, a failing store
    ├── LimitWarning                         default limits hold a run back, or a provider is given up
    ├── PromptCacheWarning                   the provider's prompt cache cannot do what was asked
    ├── ModelWarning                         a parameter was left out, or a price is not known
    └── CredentialWarning                    a credential goes where others may read it

A run raises none of these for one bad prompt: the prompt gets an error response at its own position.

Messages are read by users of the library and of the command line. They call a setting by its name, ``max_attempts``,
which is the name of an argument and, with dashes, of an option; they hold no Python to be typed in.
"""

from lm_deluge._secrets import Secrets

__all__ = [
    "CacheError",
    "CacheFileError",
    "CacheMissError",
    "CacheVersionError",
    "CacheWarning",
    "ClosedError",
    "ConfigError",
    "ConnectError",
    "ConnectionDropped",
    "CredentialWarning",
    "DamagedEntryError",
    "LMDelugeError",
    "LMDelugeWarning",
    "LimitWarning",
    "MediaError",
    "ModelWarning",
    "PromptCacheWarning",
    "PromptError",
    "ProtocolError",
    "RequestTimeout",
    "TransportError",
    "UnavailableError",
    "UnknownModelError",
]


class LMDelugeError(Exception):
    """Base class of every exception of this package."""


class ConfigError(LMDelugeError, ValueError):
    """A setting has no meaning. Raised where the setting is given, before anything is sent.

    A message repeats what was given, which may be a key in the wrong place. What looks like one is masked.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(Secrets().hide(str(message)))


class UnknownModelError(ConfigError):
    """No provider can be told from a model name."""


class PromptError(LMDelugeError, ValueError):
    """A prompt cannot be sent as it is."""


class MediaError(PromptError):
    """An image or a file cannot be read, or is of a kind that no provider takes."""


class CacheError(LMDelugeError):
    """A cache cannot be opened or used."""


class CacheFileError(CacheError):
    """The file is not one of our caches, is truncated, or cannot be written. It was left untouched."""


class CacheVersionError(CacheError):
    """The file was written by another version of this package, whose format is not read here. It was left untouched."""


class DamagedEntryError(CacheError):
    """One stored entry does not decode. Lookups count it as a miss and quarantine it."""


class CacheMissError(CacheError, LookupError):
    """A run with ``cache_mode="offline"`` and ``on_miss="raise"`` has no answer for a prompt."""


class ClosedError(LMDelugeError):
    """The client, or the cache that was to keep the answers, was closed before this was asked."""


class ProtocolError(LMDelugeError):
    """A provider's answer does not have the documented shape."""


class UnavailableError(LMDelugeError):
    """A provider has not answered for so long that it is not asked any more. See ``LLMClient(give_up_after=)``."""


class TransportError(LMDelugeError):
    """The request did not get a complete HTTP answer."""


class ConnectError(TransportError):
    """No connection could be made: refused, unreachable, unknown host, or a failed TLS handshake."""


class RequestTimeout(TransportError, TimeoutError):
    """The time limit passed before the answer was complete."""


class ConnectionDropped(TransportError):
    """The peer closed the connection before the answer was complete."""


class LMDelugeWarning(UserWarning):
    """Base class of every warning of this package."""


class CacheWarning(LMDelugeWarning):
    """The local cache did less than it was asked: a damaged row, a store that fails."""


class PromptCacheWarning(LMDelugeWarning):
    """The provider's prompt cache cannot do what was asked."""


class LimitWarning(LMDelugeWarning):
    """Default limits, which were not set by you, hold a run back; or a provider is not asked any more."""


class ModelWarning(LMDelugeWarning):
    """A parameter was left out because the model rejects it, or a price is not known."""


class CredentialWarning(LMDelugeWarning):
    """A credential goes where others may read it: over ``http://`` to another machine, or where a file says."""
