"""How long a search takes in a large database: of words of all ranks, over HTTP.

By hand, in a million messages: `SEARCH_MESSAGES=1000000 python -m pytest -m bench -s tests/test_search_speed.py`.
"""

import asyncio
import itertools
import os
import random
import sqlite3
import string
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from server_process import ServerProcess

from chatapi.clock import Clock
from chatapi.store import prefill
from chatapi.tenant_secrets import hash_key

pytestmark = pytest.mark.bench

MESSAGES, MESSAGES_PER_ROOM = int(os.environ.get("SEARCH_MESSAGES", "20000")), 100
ROOMS_OF_CALLER = 200
WORDS = 60_000
RANKS = (0, 3, 10, 30, 60, 100, 200, 400, 1_000, 3_000)
SEARCHES = 40  # of each rank
LIMIT = 20
KEY = "sk_" + "k" * 40


def make_words(chooser: random.Random) -> list[str]:
    """The most frequent one first."""
    words: dict[str, None] = {}
    while len(words) < WORDS:
        words["".join(chooser.choices(string.ascii_lowercase, k=chooser.randint(3, 9)))] = None
    return list(words)


def write_texts(connection: sqlite3.Connection, words: list[str], chooser: random.Random) -> None:
    """In each message 3 to 24 words, of which the one of rank n comes as often as in a natural language."""
    weights = list(itertools.accumulate(1 / (rank + 2.7) ** 1.05 for rank in range(len(words))))
    connection.execute("DROP TRIGGER search_edited")  # nothing is in the index
    keys = [key for (key,) in connection.execute("SELECT message_key FROM messages")]
    texts = (" ".join(chooser.choices(words, cum_weights=weights, k=chooser.randint(3, 24))) for _ in keys)
    connection.executemany("UPDATE messages SET content = ? WHERE message_key = ?", zip(texts, keys, strict=True))


def add_caller(connection: sqlite3.Connection, chooser: random.Random) -> None:
    [(tenant_key,)] = connection.execute("SELECT tenant_key FROM tenants")
    connection.execute("INSERT INTO api_keys VALUES ('key_k', ?, ?, NULL, 0, NULL)", (tenant_key, hash_key(KEY)))
    rooms = [room for (room,) in connection.execute("SELECT room_key FROM rooms")]
    connection.executemany(
        "INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us) VALUES (?, 'caller', ?, 'member', 0)",
        [(room, tenant_key) for room in chooser.sample(rooms, min(ROOMS_OF_CALLER, len(rooms)))],
    )


@pytest.fixture(scope="module")
def prefilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, list[str]]]:
    """A server whose index has all messages, and the words by rank."""
    directory = tmp_path_factory.mktemp("search")
    chooser = random.Random(7)
    words = make_words(chooser)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefill, "MESSAGES_PER_ROOM", MESSAGES_PER_ROOM)
        prefill.prefill(str(directory / "chatapi.db"), MESSAGES, Clock())
    with closing(sqlite3.connect(directory / "chatapi.db")) as connection:
        write_texts(connection, words, chooser)
        add_caller(connection, chooser)
        connection.commit()
    limits = dict.fromkeys(("limits.rate_limit", "limits.rate_burst", "limits.user_rate_limit"), "100000")
    with ServerProcess(directory, limits) as server:
        started_s = time.monotonic()
        while server._call("GET", "/health", None, {})["search"]["lag"]:
            time.sleep(0.5)
        print(f"\n{MESSAGES} messages put in the index in {time.monotonic() - started_s:.0f} s")
        yield server, words


@pytest.mark.parametrize("rank", RANKS)
async def test_words_of_any_rank_are_found(prefilled: tuple[ServerProcess, list[str]], rank: int) -> None:
    server, words = prefilled
    taken_ms: list[float] = []
    for number in range(SEARCHES):
        word = words[rank + number % max(1, min(20, rank // 8))]
        started_s = time.perf_counter()
        page: dict[str, Any] = await asyncio.to_thread(
            server.call, "GET", f"/search?q={word}&limit={LIMIT}", key=KEY, user="caller"
        )
        taken_ms.append((time.perf_counter() - started_s) * 1_000)
        messages = [result["message"] for result in page["results"]]
        assert all(word in message["content"].split() for message in messages)
        assert messages == sorted(messages, key=lambda message: message["created_at"], reverse=True)
        assert len(messages) == LIMIT or not page["has_more"]
    taken_ms.sort()
    print(f"rank {rank}: p50 {taken_ms[SEARCHES // 2]:.1f} ms, p95 {taken_ms[SEARCHES * 95 // 100]:.1f} ms")
