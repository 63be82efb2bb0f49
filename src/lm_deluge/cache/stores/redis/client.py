"""A client of a Redis server. Each command checks the shape of its reply, and raises errors of this package.

For any reply of a server, a caller gets what the command can give, or a ``CacheError`` of one line. No message holds a
credential.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from lm_deluge._optional import require
from lm_deluge._per_process import PerProcess
from lm_deluge._threads import made_progress
from lm_deluge.cache.stores.redis.address import Address
from lm_deluge.cache.stores.redis.limits import exchange
from lm_deluge.errors import CacheError, CacheFileError

__all__ = ["Command", "RedisClient"]

Command = tuple[Any, ...]
"""A command's name and its arguments."""

_SAID = 300
_ROUNDS = 100_000  # of a scan, in addition to those that the number of keys explains
_FULL = "is full. Raise its maxmemory, set a maxmemory-policy that evicts, such as allkeys-lru, or give entries a ttl."
_REFUSES = (
    "refuses us: {said}. Check user and password in the URL or in LM_DELUGE_REDIS_PASSWORD, and what that user may do."
)
_MEANINGS = {
    "OutOfMemoryError": _FULL,
    "AuthenticationError": _REFUSES,
    "AuthorizationError": _REFUSES,
    "NoPermissionError": _REFUSES,
    "ReadOnlyError": "is a replica that cannot be written. Give the URL of the primary.",
    "TimeoutError": "does not answer: {said}. Check that it is not overloaded and that no firewall is in between.",
    "ConnectionError": "cannot be reached: {said}. Check that it runs and that the URL is right.",
}
"""What redis-py's errors mean where another call would fail as well. The first that fits counts."""

_ODD = (LookupError, TypeError, ValueError, AttributeError, RecursionError, MemoryError)


class RedisClient:
    """A pool of connections to one server. They are opened when they are needed.

    Raises:
        ImportError: ``redis`` is missing.
        ConfigError: an option of the URL is not known.
    """

    def __init__(self, address: Address) -> None:
        redis = require("redis", extra="redis", purpose="RedisCache")
        from redis.backoff import NoBackoff
        from redis.connection import parse_url
        from redis.retry import Retry

        from lm_deluge.cache.stores.redis.wire import connection_class

        self.location = address.location
        self._secrets = address.secrets
        # One retry, at once, and only after a broken connection: a restarted server answers again, while
        # one that does not answer has been waited for already.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        try:
            own = {"connection_class": connection_class(address.scheme), "protocol": 2, "retry": retry}
            options: dict[str, Any] = parse_url(address.url)  # type: ignore[no-untyped-call]

            def connected() -> Any:
                client = redis.Redis(connection_pool=redis.ConnectionPool(**{**address.credentials, **options, **own}))
                client.response_callbacks.clear()  # they do not check replies
                return client

            # A pool takes its own lock in a forked child, where a thread that is not there may hold it for ever.
            self._clients = PerProcess(connected)
            self._client.connection_pool.make_connection()  # checks the options without connecting
        except (redis.RedisError, TypeError, ValueError):
            raise address.wrong_form() from None  # the error could quote the password

    def close(self) -> None:
        if self._clients.is_own:
            self._client.close()

    @property
    def _client(self) -> Any:
        return self._clients.get()

    @staticmethod
    def needs_no_password(error: CacheError) -> bool:
        """Whether the server refused us because it has no password at all."""
        return isinstance(error, CacheFileError) and "without any password" in str(error.__cause__)

    def get(self, name: bytes) -> bytes | None:
        return self._text_or_none(self._ask("GET", name))

    def get_many(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The values of names. If the reply is too large, each half of them is asked for by itself."""
        from lm_deluge.cache.stores.redis.wire import ReplyTooLarge

        if not names:
            return []
        try:
            found = self._list(self._ask("MGET", *names), len(names))
        except CacheError as error:
            if len(names) == 1 or not isinstance(error.__cause__, ReplyTooLarge):
                raise
            half = len(names) // 2
            return self.get_many(names[:half]) + self.get_many(names[half:])
        return [self._text_or_none(one) for one in found]

    def set_first(self, name: bytes, value: object) -> None:
        """Set a value, unless there is one."""
        self._ask("SET", name, value, "NX")

    def set_field(self, name: bytes, field: str, value: bytes) -> None:
        self._ask("HSET", name, field, value)

    def fields(self, name: bytes) -> list[bytes]:
        return [self._text(one) for one in self._list(self._ask("HVALS", name))]

    def field_count(self, name: bytes) -> int:
        return self._number(self._ask("HLEN", name))

    def list_length(self, name: bytes) -> int:
        return self._number(self._ask("LLEN", name))

    def list_pieces(self, name: bytes, size: int) -> Iterator[list[bytes]]:
        """The elements of a list, in pieces; no more of them than it has at first."""
        for start in range(0, self.list_length(name), size):
            found = self._list(self._ask("LRANGE", name, start, start + size - 1), most=size)
            if not found:
                return
            yield [self._text(one) for one in found]

    def scan(self, pattern: bytes, size: int) -> Iterator[list[bytes]]:
        """Names that match, in pieces. Some may come twice."""
        cursor, most = b"0", _ROUNDS
        before: set[bytes] = set()
        while True:
            reply = self._list(self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", size), 2)
            cursor = self._text(reply[0])
            yield [self._text(one) for one in self._list(reply[1])]
            if cursor == b"0":
                return
            if len(before) >= most:  # a round looks at ``size`` places or more, and most places are in use
                most = _ROUNDS + 16 * self._number(self._ask("DBSIZE")) // size
            if cursor in before or len(before) >= most:
                raise self._odd("it names what it holds without coming to an end")
            before.add(cursor)

    def run(self, script: str, names: Sequence[bytes], arguments: Sequence[object]) -> Any:
        """The result of a script, which the caller has to check."""
        import redis

        arguments = [len(names), *names, *arguments]
        with self._reported():
            try:
                digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
                return self._client.execute_command("EVALSHA", digest, *arguments)
            except redis.exceptions.NoScriptError:
                return self._client.execute_command("EVAL", script, *arguments)

    def flags(self, script: str, names: Sequence[bytes], arguments: Sequence[object]) -> list[bool]:
        """The result of a script that says yes or no for each name."""
        return self.flags_in(self.run(script, names, arguments), len(names))

    def flags_in(self, reply: Any, count: int) -> list[bool]:
        """The reply of a script that says yes or no, checked."""
        return [self._number(one) != 0 for one in self._list(reply, count)]

    def all_or_none(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one step: all of them or none."""
        return self._pipeline(commands, transaction=True)

    def numbers(self, commands: Sequence[Command]) -> list[int]:
        """Run commands in sequence; each gives a number."""
        return [self._number(one) for one in self._pipeline(commands, transaction=False)]

    def _pipeline(self, commands: Sequence[Command], *, transaction: bool) -> list[Any]:
        with self._reported(), self._client.pipeline(transaction=transaction) as batch:
            for command in commands:
                batch.execute_command(*command)
            replies = batch.execute()
        return self._list(replies, len(commands))

    def _ask(self, *command: Any) -> Any:
        with self._reported():
            return self._client.execute_command(*command)

    # The shapes of replies

    def _list(self, reply: Any, count: int | None = None, *, most: int | None = None) -> list[Any]:
        if not isinstance(reply, list) or count not in (None, len(reply)) or len(reply) > (most or len(reply)):
            raise self._odd("something else than the list that was asked for")
        return reply

    def _text(self, reply: Any) -> bytes:
        if not isinstance(reply, bytes):
            raise self._odd("something else than the text that was asked for")
        return reply

    def _text_or_none(self, reply: Any) -> bytes | None:
        return None if reply is None else self._text(reply)

    def _number(self, reply: Any) -> int:
        if not isinstance(reply, int):
            raise self._odd("something else than the number that was asked for")
        return reply

    def _odd(self, what: str) -> CacheError:
        return CacheError(f"The Redis server {self.location} answered: {what}. Check that it is one.")

    # Errors

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Limit an exchange, and convert the client's errors: to ``CacheFileError`` where another call would fail as
        well."""
        import redis

        try:
            with exchange():
                yield
            made_progress()
        except redis.RedisError as error:
            for name, meaning in _MEANINGS.items():
                if isinstance(error, getattr(redis.exceptions, name)):
                    what = meaning.format(said=self._said(error))
                    raise CacheFileError(f"The Redis server {self.location} {what}") from error
            raise CacheError(f"The Redis server {self.location} answered: {self._said(error)}.") from error
        except _ODD as error:
            raise self._odd("something that its client cannot read") from error

    def _said(self, error: Exception) -> str:
        """One printable line of limited length. A server may repeat what it was sent, with control characters."""
        # A failed pipeline quotes the command, and with it a prompt.
        text = str(error).rpartition("caused error: ")[2][: 4 * _SAID]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
        return line[:_SAID].rstrip(".")
