"""Where the password of a Redis server comes from, so that it need not be on a command line."""

import contextlib
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_deluge.cache import RedisCache
from lm_deluge.cache.stores.redis import RedisStore
from lm_deluge.cache.stores.redis.address import Address
from lm_deluge.errors import CacheFileError, ConfigError
from lm_deluge.prompt import Conversation

from .redis_server import RedisServer

PASSWORD = "p@ss/word#1 x"
OURS, GENERAL = "LM_DELUGE_REDIS_PASSWORD", "REDIS_PASSWORD"


@pytest.fixture(scope="module")
def closed_server() -> Iterator[RedisServer]:
    with RedisServer(tcp=True, password=PASSWORD) as server:
        yield server


@pytest.fixture
def url(closed_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without the password; there is none in the environment either."""
    for name in (OURS, GENERAL):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    return f"redis://127.0.0.1:{closed_server.port}/0"


def opens(url: str) -> bool:
    with contextlib.closing(RedisStore(url)) as store:
        return store.get_many([bytes(32)]) == [None]


@pytest.mark.parametrize("name", [OURS, GENERAL])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_it_is_in_the_environment_or_in_a_file(
    url: str, name: str, end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CacheFileError, match=r"refuses us.*LM_DELUGE_REDIS_PASSWORD"):
        RedisStore(url)
    if end:
        (tmp_path / "password").write_text(PASSWORD + end, newline="")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "password"))
    else:
        monkeypatch.setenv(name, PASSWORD)
    assert opens(url)
    with RedisCache(url) as cache:
        assert cache.get(Conversation.user("anything")) is None
    assert PASSWORD not in repr(cache)
    assert opens(url.replace("//", "//default@"))


def test_the_more_special_one_counts_and_the_url_before_all(
    url: str, closed_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GENERAL, "wrong-0123456789")
    assert opens(closed_server.url)
    with pytest.raises(CacheFileError, match="refuses us") as caught:
        RedisStore(url)
    assert "wrong-0123456789" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv(OURS, PASSWORD)
    assert opens(url)


def test_a_server_without_one_is_used_though_the_environment_has_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is meant for another server."""
    monkeypatch.setenv(GENERAL, PASSWORD)
    assert opens(redis_url)
    with pytest.raises(CacheFileError, match="refuses us"):
        RedisStore(redis_url.replace("//", "//:given@"))


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 100_000])
def test_a_file_that_holds_none(
    url: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    monkeypatch.setenv(f"{OURS}_FILE", str(tmp_path / "password"))
    with pytest.raises(ConfigError, match=f"The file that {OURS}_FILE names"):
        RedisStore(url)


def test_commands_take_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OURS, PASSWORD)
    command = [sys.executable, "-m", "lm_deluge", "cache", "stats", url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, PASSWORD in ran.stdout + ran.stderr) == (0, False), ran.stderr


@pytest.mark.parametrize(
    ("url", "location"),
    [("valkey://me:secret@host/1", "redis://host:6379/1"), ("valkeys://host:1", "rediss://host:1")],
)
def test_valkey_is_another_name_for_the_same_server(url: str, location: str) -> None:
    address = Address(url, {})
    assert address.location == location
    assert address.url.partition("://")[0] == location.partition("://")[0]
