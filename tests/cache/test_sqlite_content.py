"""What is in the file: plain columns for people, few bytes an entry, and damage that never becomes an answer."""

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.stores.sqlite.database import Database
from lm_deluge.cache.stores.sqlite.walk import is_damage
from lm_deluge.errors import CacheError, CacheFileError
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse
from lm_deluge.testing import gsm8k
from lm_deluge.usage import Usage

from .helpers import answer, finish, prompt, start_child


def test_the_file_can_be_read_without_this_package(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path, cache_key="mine") as cache:
        cache.put(prompt("p"), answer("x"))
        cache.put(prompt("q"), APIResponse(model_internal="m", content=Message.ai("y"), cost=None))
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        first, second = connection.execute("SELECT * FROM entries ORDER BY rowid").fetchall()
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 2
        assert connection.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"lmd1"
    wanted = {
        "namespace": "mine",
        "model": "gpt-4.1-mini-2025-04-14",
        "finish_reason": "stop",
        "input_tokens": 11,
        "output_tokens": 7,
        "cache_read_tokens": 5,
        "cache_write_tokens": 3,
        "cost": 0.25,
    }
    assert {name: first[name] for name in wanted} == wanted
    assert first["key"] == cache.key(prompt("p"))
    assert first["created"] > 1.7e9
    assert (second["model"], second["cost"], second["input_tokens"]) == ("m", None, None)


def test_an_overwrite_replaces_every_column(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("p"), answer("x"))
        cache.put(prompt("p"), APIResponse(model_internal="other", content=Message.ai("y"), cost=1.5))
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT model, finish_reason, input_tokens, cost FROM entries").fetchall()
    assert rows == [("other", None, None, 1.5)]


def test_gsm8k_takes_little_room(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    rows = gsm8k("test")[:1_000]

    def response(row: dict[str, str], number: int) -> APIResponse:
        body = {
            "id": f"chatcmpl-{number:029d}",
            "object": "chat.completion",
            "created": 1_750_000_000 + number,
            "model": "gpt-4.1-mini-2025-04-14",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": row["answer"], "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 90 + number % 50, "completion_tokens": 120, "total_tokens": 210 + number % 50},
        }
        return APIResponse(
            model_internal="gpt-4.1-mini",
            model_external="gpt-4.1-mini-2025-04-14",
            content=Message.ai(row["answer"]),
            usage=Usage(input_tokens=90 + number % 50, output_tokens=120),
            cost=0.00021,
            finish_reason="stop",
            status_code=200,
            response_id=body["id"],  # type: ignore[arg-type]
            raw_body=msgspec.json.encode(body),
        )

    async def store(cache: SqliteCache) -> None:
        await asyncio.gather(
            *(cache.store(Conversation.user(row["question"]), response(row, n)) for n, row in enumerate(rows))
        )

    with SqliteCache(path) as cache:
        asyncio.run(store(cache))
        assert cache.get(Conversation.user(rows[7]["question"])) == response(rows[7], 7)
    assert path.stat().st_size / len(rows) < 1_500


def test_a_damaged_row_is_moved_with_all_it_had(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("p"), answer("x"))
        key = cache.key(prompt("p"))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE entries SET response = ?", (b"\x02broken",))
            (request,) = connection.execute("SELECT request FROM entries").fetchone()
        (found,) = asyncio.run(cache.get_many([prompt("p")]))
        assert found.damage is not None
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (0,)
        rows = connection.execute("SELECT key, response, request, reason FROM set_aside").fetchall()
    assert [row[:3] for row in rows] == [(key, b"\x02broken", request)]
    assert "checksum" in rows[0][3]


@pytest.mark.parametrize("value", ["text", 7, 2.5, "\udcff"], ids=["text", "integer", "float", "not UTF-8"])
def test_cells_of_another_type_are_damage(tmp_path: Path, value: object) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("p"), answer("x"))
        cache.put(prompt("q"), answer("y"))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            stored = value.encode("utf-8", "surrogateescape") if value == "\udcff" else value
            cast = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
            connection.execute(f"UPDATE entries SET response = {cast} WHERE key = ?", (stored, cache.key(prompt("p"))))
        bad, good = asyncio.run(cache.get_many([prompt("p"), prompt("q")]))
        assert bad.damage is not None
        assert good.response == answer("y")
        assert asyncio.run(cache.get_many([prompt("p")]))[0].damage is None  # it was quarantined


def test_a_damaged_page_costs_only_what_is_on_it(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    prompts = [prompt(number) for number in range(400)]
    with SqliteCache(path) as cache:
        for number, one in enumerate(prompts):
            cache.put(one, answer(f"{number} " + "x" * 300))
        assert cache.get(prompts[0]) is not None
    data = bytearray(path.read_bytes())
    needle = cache.key(prompts[200])
    page = data.index(needle) // 4_096  # of the table or of its index
    data[page * 4_096 : page * 4_096 + 8] = b"\xff" * 8
    path.write_bytes(data)
    with SqliteCache(path) as cache:
        found = asyncio.run(cache.get_many(prompts))
        right = sum(
            outcome.response == answer(f"{number} " + "x" * 300)
            for number, outcome in enumerate(found)
            if outcome.response is not None
        )
        assert right == sum(outcome.response is not None for outcome in found)
        assert right > 200
        assert all(outcome.damage for outcome in found if outcome.response is None)


def flip_bits(directory: Path, rounds: int) -> None:
    """Flip one bit anywhere in the file, and then read everything and write: in a process, as a crash would end it."""
    texts = [f"a-{number}" for number in range(60)]
    path = directory / "cache.db"
    with SqliteCache(path) as cache:
        for text in texts:
            cache.put(
                prompt(text), APIResponse(model_internal="gpt-4.1-mini", content=Message.ai(text), finish_reason="stop")
            )
    whole = path.read_bytes()
    pick = random.Random(rounds)
    header = [pick.randrange(100 * 8) for _ in range(rounds // 5)]
    anywhere = [pick.randrange(len(whole) * 8) for _ in range(rounds - len(header))]
    targets = []
    for number, bit in enumerate(header + anywhere):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        targets.append(directory / f"flipped-{number}.db")
        targets[-1].write_bytes(flipped)
    said = finish(start_child("read_bits", "unused"), "".join(f"{target}\n" for target in targets)).splitlines()
    results = [tuple(map(int, line.split())) for line in said]
    assert len(results) == rounds
    assert {wrong for _, wrong in results} == {0}
    assert sum(found for found, _ in results) > rounds * len(texts) / 2


def test_no_flipped_bit_becomes_an_answer(tmp_path: Path) -> None:
    flip_bits(tmp_path, 50)


@pytest.mark.long
def test_none_of_many_flipped_bits_becomes_an_answer(tmp_path: Path) -> None:
    flip_bits(tmp_path, 1_000)


def test_damage_found_by_sqlite_is_our_error(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        for number in range(100):
            cache.put(prompt(number), answer(number))
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4_096):
        data[page * 4_096 : page * 4_096 + 100] = b"\xff" * 100
    path.write_bytes(data)
    with SqliteCache(path) as cache, pytest.raises(CacheError, match=r"damaged.*Restore it from a copy"):
        cache.put(prompt("p"), answer("x"))


def test_a_statement_that_is_not_allowed_is_no_damage(tmp_path: Path) -> None:
    SqliteCache(tmp_path / "cache.db").close()
    with (
        closing(Database(tmp_path / "cache.db")) as database,
        pytest.raises(CacheFileError) as caught,
        database.reading() as reader,
    ):
        reader.execute("WITH some AS (SELECT key FROM entries) SELECT * FROM some")
    assert "was not allowed" in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, sqlite3.DatabaseError)
    assert not is_damage(cause)
