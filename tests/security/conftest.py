"""Fixtures of the security tests."""

from collections.abc import Iterator

import pytest

from ..cache.redis_server import RedisServer

PASSWORD = "pw-REDIS-5b1f"


@pytest.fixture(scope="session")
def guarded_server() -> Iterator[RedisServer]:
    """A Redis server with a password."""
    with RedisServer(tcp=True, password=PASSWORD) as server:
        yield server


@pytest.fixture
def guarded_redis(guarded_server: RedisServer) -> RedisServer:
    """That server, which is empty when the test begins."""
    with guarded_server.client() as client:
        client.flushall()
    return guarded_server
