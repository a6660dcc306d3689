"""Calls for the many recipients of an event, made in steps."""

import pytest
from driver import StartServer
from hooked import QUICK, hook
from receiver import Receiver, answer

from chatapi.store import webhooks as store_webhooks
from chatapi.store.webhooks import ExcludedUsers
from chatapi.webhooks import expansion, queue


@pytest.mark.parametrize(
    ("after", "until", "users"),
    [("", "a", "ab"), ("a", "b", "ab"), ("b", "c", "cd"), ("a", "d", "abcd"), ("d", "\x7f", "e"), ("e", "\x7f", "")],
)
def test_only_the_parts_between_two_users_are_given(after: str, until: str, users: str) -> None:
    excluded = ExcludedUsers(1, ["b", "d", "e"], ['["a","b"]', '["c","d"]', '["e"]'])
    parts = {"ab": '["a","b"]', "cd": '["c","d"]', "abcd": '["a","b"],["c","d"]', "e": '["e"]', "": ""}
    assert excluded.find_parts(after, until) == f"[{parts[users]}]"


@pytest.mark.parametrize("kind", ["short", "long", "long, and kept"])
async def test_a_list_of_excluded_users_holds_in_each_step(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A long one is read once for each event, in parts that do not end where steps end. One that is kept after its
    event is not taken for that of the next."""
    monkeypatch.setattr(queue, "DIRECT_RECIPIENTS", 0)
    monkeypatch.setattr(expansion, "EXPAND_ROWS", 4)
    monkeypatch.setattr(expansion, "MOST_LISTS", 1)
    monkeypatch.setattr(store_webhooks, "PART_USERS", 3)
    monkeypatch.setattr(store_webhooks, "SHORT_LIST", 1_000 if kind == "short" else 0)
    read, reads = store_webhooks.read_excluded, []

    async def note(*args: object) -> ExcludedUsers | None:
        reads.append(args)
        return await read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store_webhooks, "read_excluded", note)
    if kind == "long, and kept":
        monkeypatch.setattr(expansion.Expander, "forget", lambda *_: None)
    receiver.behave = answer(204)
    hooked = await hook(await start_server(QUICK), receiver.url)
    members = [f"m{number:02}" for number in range(24)]
    rooms = [await hooked.user("z").make_room(*members), await hooked.user("z").make_room("m01", "m02", "m23")]
    online = {f"m{number:02}" for number in (0, 3, 4, 7, 8, 9, 10, 11, 12, 20, 22)}
    for user_id in online:
        await hooked.user(user_id).connect()
    messages = [await hooked.user("z").say(room_id) for room_id in rooms]
    await hooked.is_settled()
    for message, recipients in zip(messages, ({*members} - online, {"m01", "m02", "m23"}), strict=True):
        ids = [call.user_id for call in receiver.calls if call.event["data"]["message"] == message]
        assert sorted(ids) == sorted(recipients)
    assert len(reads) == (0 if kind == "short" else 2)
