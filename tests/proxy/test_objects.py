"""What is kept: readable to its owner alone, for a time, and not on the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.objects import ObjectStore, ObjectStoreError, Quota, StoreFull

KEY = b"k" * 32
SECRET = b"Jane Doe, 12 High Street"


class Clock:
    """A clock that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[ObjectStore]:
    made = ObjectStore(tmp_path / "objects.sqlite3", KEY, 100.0, clock)
    yield made
    made.close()


async def test_gives_back_what_was_kept(store: ObjectStore) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    assert await store.get("response", "key-1", "resp_1") == SECRET


async def test_another_owner_kind_or_id_finds_nothing(store: ObjectStore) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    assert await store.get("response", "key-2", "resp_1") is None
    assert await store.get("file", "key-1", "resp_1") is None
    assert await store.get("response", "key-1", "resp_2") is None
    assert not await store.delete("response", "key-2", "resp_1")
    assert await store.get("response", "key-1", "resp_1") == SECRET


async def test_what_is_deleted_is_gone(store: ObjectStore) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    assert await store.delete("response", "key-1", "resp_1")
    assert await store.get("response", "key-1", "resp_1") is None
    assert not await store.delete("response", "key-1", "resp_1")


async def test_its_time_is_limited(store: ObjectStore, clock: Clock, tmp_path: Path) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    clock.now += 100.1
    assert await store.get("response", "key-1", "resp_1") is None
    assert not await store.delete("response", "key-1", "resp_1")
    await store.put("response", "key-1", "resp_2", b"new")
    with sqlite3.connect(tmp_path / "objects.sqlite3") as db:
        assert db.execute("SELECT id FROM objects").fetchall() == [("resp_2",)]


async def test_no_file_holds_it_in_the_clear_and_none_is_open_to_others(
    store: ObjectStore, tmp_path: Path
) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    files = list(tmp_path.iterdir())
    assert files
    assert not any(SECRET[:8] in file.read_bytes() for file in files)
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


@pytest.mark.parametrize("column", ["owner", "id", "kind"])
async def test_a_value_moved_to_another_place_is_not_read(
    column: str, store: ObjectStore, tmp_path: Path
) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    with sqlite3.connect(tmp_path / "objects.sqlite3") as db:
        db.execute(f"UPDATE objects SET {column} = 'other'")  # noqa: S608
    place = {"kind": "response", "owner": "key-1", "id": "resp_1"} | {column: "other"}
    with pytest.raises(ObjectStoreError):
        await store.get(place["kind"], place["owner"], place["id"])


async def test_another_key_reads_nothing(store: ObjectStore, tmp_path: Path) -> None:
    await store.put("response", "key-1", "resp_1", SECRET)
    other = ObjectStore(tmp_path / "objects.sqlite3", os.urandom(32), 100.0, Clock())
    with pytest.raises(ObjectStoreError) as caught:
        await other.get("response", "key-1", "resp_1")
    assert caught.value.__context__ is None
    other.close()


async def test_the_oldest_of_an_owner_and_a_kind_make_room(store: ObjectStore) -> None:
    two = Quota(max_objects=2)
    await store.put("response", "key-2", "resp_0", SECRET, quota=two)
    await store.put("file", "key-1", "resp_0", SECRET, quota=two)
    for number in range(3):
        await store.put("response", "key-1", f"resp_{number}", SECRET, quota=two)
    kept = [await store.get("response", "key-1", f"resp_{number}") for number in range(3)]
    assert kept == [None, SECRET, SECRET]
    assert await store.get("response", "key-2", "resp_0") == SECRET
    assert await store.get("file", "key-1", "resp_0") == SECRET


@pytest.mark.parametrize("most", [{"max_objects": 2}, {"max_bytes": 150}])
async def test_what_must_not_go_makes_no_room(store: ObjectStore, most: dict[str, int]) -> None:
    full = Quota(**most, drops_oldest=False)
    for number in range(2):
        await store.put("file", "key-1", f"file_{number}", SECRET, quota=full)
    with pytest.raises(StoreFull):
        await store.put("file", "key-1", "file_2", SECRET, quota=full)
    assert [id_ for id_, _ in await store.all("file", "key-1")] == ["file_0", "file_1"]
    await store.put("file", "key-2", "file_2", SECRET, quota=full)


async def test_all_of_an_owner_and_a_kind_are_told_and_cleared(
    store: ObjectStore, clock: Clock
) -> None:
    await store.put("file", "key-1", "b", b"2")
    await store.put("file", "key-1", "a", b"1", ttl_s=50.0)
    await store.put("file", "key-2", "c", b"3")
    await store.put("response", "key-1", "d", b"4")
    assert await store.all("file", "key-1") == [("a", b"1"), ("b", b"2")]
    assert await store.places("file") == [("key-1", "a"), ("key-1", "b"), ("key-2", "c")]
    clock.now += 51
    assert await store.all("file", "key-1") == [("b", b"2")]
    await store.clear("file", "key-1")
    assert await store.places("file") == [("key-2", "c")]
    assert await store.get("response", "key-1", "d") == b"4"


async def test_a_file_that_fails_is_an_error_without_a_cause(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.close()
    with pytest.raises(ObjectStoreError) as caught:
        await store.put("response", "key-1", "resp_1", SECRET)
    assert caught.value.__context__ is None
