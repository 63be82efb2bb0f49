"""Entries get the keys of today, whatever interrupts it, and answers are never lost on the way."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge import canonical
from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import rekey
from lm_deluge.cache.codec import encode
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.record import StoredRequest
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheError, ConfigError
from lm_deluge.prompt import Conversation, conversation

from ..helpers import answer, prompt
from .making import NOW, PARAMETERS, contents, entry, filled

FORMAT_2 = Path(__file__).parent.parent / "golden" / "format_2.db"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


def new_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the text that begins every conversation's digest had changed."""
    root = b"another root, 32 bytes as always"
    monkeypatch.setattr(canonical, "ROOT", root)
    monkeypatch.setattr(conversation, "ROOT", root)


def requests_in(path: Path) -> list[tuple[str, StoredRequest, Any]]:
    store = SqliteStore(path)
    found = [(value[0], value[2], value[1].response) for value in contents(store).values() if value[2] is not None]
    store.close()
    return found


def served(path: Path, asked: list[tuple[str, StoredRequest, Any]]) -> int:
    """How many are hits, each with its own answer, through caches as users make them."""
    count = 0
    for namespace, request, response in asked:
        with SqliteCache(path, namespace) as cache:
            fresh = Conversation(request.conversation.messages)  # whose digest is not known yet
            found = cache.get(fresh)
            if found is not None:
                count += 1
                assert found.completion == response.completion
                assert found.usage == response.usage
    return count


def test_the_committed_file_is_served_and_survives_a_new_key_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache.db"
    shutil.copy(FORMAT_2, path)
    asked = requests_in(path)
    assert {namespace for namespace, _, _ in asked} == {"default", "other"}
    assert served(path, asked) == len(asked) == 11

    store = SqliteStore(path)
    report = rekey(store)
    assert (report.right, report.moved) == (0, 11)
    assert served(path, asked) == 11
    report = rekey(store)
    assert (report.right, report.moved) == (11, 0)
    before = contents(store)

    new_scheme(monkeypatch)
    assert served(path, asked) == 0
    dry = rekey(store, dry_run=True)
    assert contents(store) == before
    report = rekey(store)
    assert msgspec.structs.replace(dry, dry_run=False) == report
    assert (report.right, report.moved, report.conflicts, report.damaged) == (0, 11, 0, 0)
    assert served(path, asked) == 11
    assert rekey(store).right == store.usage()["entries"] == 11
    assert not list(store.verify())
    store.close()


def sample_entries() -> list[Entry]:
    long = Conversation.system("long " * 1_000).user("and", image=PNG)
    return [
        entry(long.user("a"), answer("a"), created=NOW + 1, expires=NOW + 9, run=7),
        entry(long.user("b"), answer("b"), scope="request", sample=2),
        entry(prompt("c"), answer("c"), parameters=None),
        entry(prompt("d"), answer("d"), sample=1, namespace="other"),
    ]


def test_everything_but_the_key_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(*sample_entries())
    before = contents(store)
    new_scheme(monkeypatch)
    assert rekey(store).moved == 4
    after = contents(store)
    assert not after.keys() & before.keys()
    assert all(_fresh(value) in [_fresh(other) for other in after.values()] for value in before.values())
    # The request does not say its scope any more.
    assert store.usage()["bytes"] <= filled(*sample_entries()).usage()["bytes"]
    assert store.usage()["blobs"] == filled(*sample_entries()).usage()["blobs"]


def _fresh(value: Any) -> Any:
    namespace, decoded, request, facts, expires = value
    return (
        namespace,
        decoded,
        request and (request.conversation.messages, request.parameters, request.sample),
        facts,
        expires,
    )


def test_a_namespace_can_be_renamed() -> None:
    store = filled(entry(prompt("a"), answer("a"), namespace="old"), entry(prompt("a"), answer("b"), namespace="else"))
    report = rekey(store, namespace_from="old", namespace_to="new")
    assert (report.moved, report.right) == (1, 0)
    expected = filled(
        entry(prompt("a"), answer("a"), namespace="new"), entry(prompt("a"), answer("b"), namespace="else")
    )
    assert contents(store) == contents(expected)
    with pytest.raises(ConfigError):
        rekey(store, namespace_to="")


def test_of_two_answers_the_newer_is_served_and_the_older_quarantined() -> None:
    for times in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 0, 0)):
        names = ("one", "two", "three")
        made = {
            name: entry(prompt("a"), answer(name), namespace=name, created=NOW + time)
            for name, time in zip(names, times, strict=True)
        }
        store = filled(*made.values())
        dry = rekey(store, dry_run=True, namespace_to="three")
        report = rekey(store, namespace_to="three")
        assert msgspec.structs.replace(dry, dry_run=False) == report
        assert (report.moved, report.right, report.conflicts) == (2, 1, 2)
        ((_, decoded, _, _, _),) = contents(store).values()
        newest = "three" if times == (0, 0, 0) else names[times.index(2)]
        assert decoded.response == answer(newest)
        quarantined = list(store.quarantined())
        assert {item.value for item in quarantined} == {made[name].value for name in names if name != newest}
        assert all("newer answer" in item.reason for item in quarantined)


def test_what_cannot_be_moved_is_left_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Entry(key=bytes(32), value=encode(bytes(32), answer("bare")))
    lost = msgspec.structs.replace(entry(Conversation.system("long " * 1_000), answer("lost")), blobs={})
    damaged = entry(prompt("damaged"), answer("damaged"))
    damaged = msgspec.structs.replace(damaged, value=damaged.value[:-1])
    store = filled(bare, lost, damaged, entry(prompt("good"), answer("good")))
    new_scheme(monkeypatch)
    report = rekey(store)
    assert (report.moved, report.without_request, report.damaged, report.right) == (1, 1, 2, 0)
    assert {left.what for left in report.left} == {lost.key.hex(), damaged.key.hex()}
    assert {bare.key, lost.key, damaged.key} <= {stored.key for stored in store.scan()}
    assert "damaged" in str(report)


@pytest.mark.parametrize("method", ["put_if_unchanged", "delete_many"])
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_interruption_loses_nothing_and_doing_it_again_finishes(
    method: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after any write: each answer is under one of its keys, or both, at every such moment."""
    made = [entry(prompt(n), answer(n)) for n in range(600)]
    for after in (False, True):
        store = filled(*made)
        with monkeypatch.context() as patch:
            new_scheme(patch)
            _interrupt(patch, store, method, calls, after=after)
            with pytest.raises(KeyboardInterrupt):
                rekey(store)
            answers = {decoded.response.completion for _, decoded, _, _, _ in contents(store).values()}
            assert answers == {str(n) for n in range(600)}
            patch.undo()
            new_scheme(patch)
            rekey(store)
            assert {stored.key for stored in store.scan()} == {entry(prompt(n), answer(n)).key for n in range(600)}
            assert not list(store.quarantined())


def _interrupt(patch: pytest.MonkeyPatch, store: MemoryStore, method: str, calls: int, *, after: bool) -> None:
    real = getattr(store, method)
    count = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count < calls:
            return real(*arguments)
        if after:
            real(*arguments)
        raise KeyboardInterrupt

    patch.setattr(store, method, interrupted)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FORMAT_2, tmp_path / "cache.db")
    SqliteStore(tmp_path / "cache.db").close()
    store = SqliteStore(tmp_path / "cache.db", read_only=True)
    new_scheme(monkeypatch)
    assert rekey(store, dry_run=True).moved == 11
    with pytest.raises(CacheError):
        rekey(store)
    store.close()


def test_samples_and_parameters_have_keys_of_their_own() -> None:
    """The keys here are those that a cache makes: see ``ResponseCache.key``."""
    keys = {made.key for made in sample_entries()}
    assert len(keys) == 4
    asked = Conversation.system("long " * 1_000).user("and", image=PNG).user("b").load()
    conversation = canonical.conversation_key("default", asked.digest, 2)
    assert canonical.entry_key(conversation, PARAMETERS.digest) in keys
