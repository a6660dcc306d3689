"""The checker as CI runs it, and that its verifier sees what it is there to see."""

import copy
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checker.journal import Frame, Growing, Journal, Outcome, Stream
from checker.run import Run
from checker.truth import RoomTruth, Truth, UserTruth, find_stays
from checker.verdict import find_violations

SECONDS = 90.0


@pytest.mark.slow
@pytest.mark.timeout(290)
async def test_nothing_is_lost_over_random_kills(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    end_s = time.monotonic() + SECONDS
    report = await Run(tmp_path, seed).run(lambda _: time.monotonic() >= end_s)
    print(report)
    assert report.kills
    assert report.counts["send confirmed"] > 1000
    assert not report.violations


# A small world without a fault: alice and bob are in a room from the start; alice sends three messages and edits the
# first one, bob leaves; bob's one connection has got all of it.

ROOM = "room_1"


def message(seq: int, **fields: Any) -> Frame:
    return {
        "type": "message",
        "room_id": ROOM,
        "message_id": f"msg_{seq}",
        "seq": seq,
        "sender_id": "alice",
        "content": f"m-{seq}",
        "client_message_id": f"m-{seq}",
        "deleted_at": None,
        **fields,
    }


class World:
    def __init__(self) -> None:
        self.journal = journal = Journal()
        edited = message(4, type="message.edited", message_id="msg_1", content="edited", client_message_id="m-1")
        edited["target_seq"] = 1
        left = {"type": "member.left", "room_id": ROOM, "user_id": "bob", "seq": 5}
        self.events = [message(1, content="edited"), message(2), message(3), edited, left]
        for seq in (1, 2, 3):
            attempt = journal.begin("send", "alice", ROOM, client_message_id=f"m-{seq}", content=f"m-{seq}")
            journal.settle(attempt, Outcome.CONFIRMED, message_id=f"msg_{seq}", seq=seq)
        attempt = journal.begin("edit", "alice", ROOM, message_id="msg_1", content="edited", mentions=None)
        journal.settle(attempt, Outcome.CONFIRMED, seq=4)
        self.ack = journal.begin("ack", "alice", ROOM, seq=2)
        journal.settle(self.ack, Outcome.CONFIRMED)
        journal.settle(journal.begin("leave", "bob", ROOM), Outcome.CONFIRMED)
        self.stream = Stream("bob", "backlog", 0)
        journal.streams.append(self.stream)
        self.receive(
            {"type": "ready", "rooms": [{"room_id": ROOM, "last_seq": 2, "last_ack": 0}]},
            message(1),
            message(2),
            {"type": "sync.complete", "rooms": {ROOM: 2}},
            *self.events[2:],
        )
        journal.note_page("alice", ROOM, 1, 3, copy.deepcopy(self.events[1:4]))
        self.receipts: dict[str, Frame] = {"alice": {"last_ack": 2}}
        self.messages = [message(1, content="edited"), message(2), message(3)]
        self.own = {"last_read": 0, "unread_mentions": 0, "notify": "all", "hidden": False}
        self.own |= {"posting": "members", "slow_mode_seconds": 0}
        self.users = {"alice": UserTruth(), "warden": UserTruth(rooms={ROOM: self.own})}
        self.is_dm = False  # of alice and the warden
        self.reports: list[Frame] = []
        self.mentions: list[Frame] = []
        self.found: dict[str, list[Frame]] = {"m-2": [message(2)], "edited": [message(1, content="edited")]}

    def react(self, *, is_stored: bool = True, is_shown: bool = True) -> None:
        """Alice reacts to the second message, after bob has left."""
        attempt = self.journal.begin("react", "alice", ROOM, message_id="msg_2", content="👍")
        self.journal.settle(attempt, Outcome.CONFIRMED)
        fields = {"room_id": ROOM, "message_id": "msg_2", "user_id": "alice", "emoji": "👍", "count": 1, "seq": 6}
        if is_stored:
            self.events.append({"type": "reaction.added", **fields})
        if is_shown:
            self.messages[1]["reactions"] = [{"emoji": "👍", "count": 1, "user_ids": ["alice"]}]

    def confirm(self, kind: str, user_id: str, content: str | None = None, **fields: Any) -> None:
        attempt = self.journal.begin(kind, user_id, ROOM, content=content, **fields)
        self.journal.settle(attempt, Outcome.CONFIRMED)

    def store(self, kind: str, user_id: str, **fields: Any) -> None:
        self.events.append({"type": kind, "room_id": ROOM, "user_id": user_id, "seq": len(self.events) + 1, **fields})

    def say(self, created_at: str) -> None:
        """Alice sends one more message."""
        seq = len(self.events) + 1
        attempt = self.journal.begin("send", "alice", ROOM, client_message_id=f"m-{seq}", content=f"m-{seq}")
        self.journal.settle(attempt, Outcome.CONFIRMED, message_id=f"msg_{seq}", seq=seq)
        self.events.append(message(seq, created_at=created_at))
        self.messages.append(message(seq, created_at=created_at))

    def grow(self, content: str = "m-2 and more", state: str | None = "done") -> None:
        """The second message was written bit by bit, of which bob's connection has seen a part."""
        self.journal.growing["msg_2"] = Growing(ROOM, "msg_2", "m-2", [" and", " more"], confirmed=2)
        self.confirm("finish", "alice", message_id="msg_2", state="done")
        for shown in (self.events[1], self.messages[1]):
            shown.update(content=content, stream={"state": state, "index": 2})
        self.found["m-2"] = [self.messages[1]]
        seq = len(self.events) + 1
        ended = message(seq, type="message.finished", target_seq=2, message_id="msg_2", content=content)
        self.events.append(ended | {"client_message_id": "m-2", "stream": self.events[1]["stream"]})
        delta = {"type": "message.delta", "room_id": ROOM, "message_id": "msg_2"}
        self.receive(
            {"type": "message.state", "room_id": ROOM, "message": message(2, stream={"state": "open", "index": 0})},
            {**delta, "after": 0, "index": 2, "text": " and more"},
            {**delta, "after": 1, "index": 2, "text": " more"},
        )

    def report(self, **fields: Any) -> None:
        """Alice reports the second message."""
        self.confirm("report", "alice", "rep_1", message_id="msg_2")
        report = {"report_id": "rep_1", "status": "open", "user_id": "alice", "message": message(2), **fields}
        self.reports.append(report)

    def receive(self, *frames: Frame) -> None:
        self.stream.entries += [(self.journal.tick(), False, copy.deepcopy(frame)) for frame in frames]

    def frames(self) -> list[Frame]:
        return [frame for _, _, frame in self.stream.entries]

    def forget(self, index: int) -> None:
        del self.stream.entries[index]

    def find_violations(self) -> list[str]:
        truth = RoomTruth(ROOM, len(self.events), self.events, self.receipts, self.messages)
        truth.own = self.own
        truth.found = self.found
        truth.stays = find_stays(["alice", "bob"], self.events)
        dms = {ROOM: "alice"} if self.is_dm else {}
        return find_violations(self.journal, Truth({ROOM: truth}, self.users, self.reports, self.mentions), dms)


def test_a_world_without_a_fault_has_no_violations() -> None:
    assert World().find_violations() == []


def test_a_reaction_is_no_violation() -> None:
    world = World()
    world.react()
    assert world.find_violations() == []


def test_settings_that_are_shown_are_no_violation() -> None:
    world = World()
    world.confirm("profile", "alice", "Alice")
    world.users["alice"].name = "Alice"
    world.confirm("block", "alice", "warden")
    world.users["alice"].blocked.add("warden")
    world.report()
    world.confirm("posting", "warden", "admins")
    world.store("room.updated", "warden", posting="admins", slow_mode_seconds=0)
    world.own["posting"] = "admins"
    world.confirm("mute", "alice")
    world.store("member.updated", "alice", muted_until=LATER)
    world.confirm("notify", "warden", "none")
    world.confirm("hide", "warden", "True")
    world.own.update(notify="none", hidden=True)
    assert world.find_violations() == []


def test_a_message_that_grows_is_no_violation() -> None:
    world = World()
    world.grow()
    assert world.find_violations() == []


def test_posts_as_soon_as_rules_allow_them_are_no_violation() -> None:
    world = World()
    world.say(NOW)
    world.store("room.updated", "warden", posting="members", slow_mode_seconds=1)
    world.confirm("mute", "alice")
    world.store("member.updated", "alice", muted_until=LATER)
    world.say(LATER)
    assert world.find_violations() == []


def test_a_post_in_a_dm_that_was_unblocked_is_no_violation() -> None:
    world = World()
    world.is_dm = True
    world.confirm("block", "alice", "warden")
    world.confirm("unblock", "alice", "warden")
    world.say(NOW)
    assert world.find_violations() == []


NOW, SOON, LATER = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.999999Z", "2026-01-01T00:00:01.000000Z"


def lose_a_profile(world: World) -> None:
    world.confirm("profile", "alice", "Alice")


def show_an_older_profile(world: World) -> None:
    world.confirm("profile", "alice", "Alice")
    world.confirm("profile", "alice", "Alicia")
    world.users["alice"].name = "Alice"


def lose_a_block(world: World) -> None:
    world.confirm("block", "alice", "warden")


def post_in_a_blocked_dm(world: World) -> None:
    world.is_dm = True
    world.confirm("unblock", "alice", "warden")
    world.confirm("block", "alice", "warden")
    world.users["alice"].blocked.add("warden")
    world.say(NOW)


def block_by_itself(world: World) -> None:
    world.users["alice"].blocked.add("warden")


def lose_a_view(world: World) -> None:
    world.confirm("notify", "warden", "none")


def show_a_room_that_is_hidden(world: World) -> None:
    world.confirm("hide", "warden", "True")


def hide_by_itself(world: World) -> None:
    world.own["hidden"] = True


def keep_a_room_hidden_in_which_others_post(world: World) -> None:
    world.confirm("hide", "warden", "True")
    world.own["hidden"] = True
    world.say(NOW)


def lose_a_rule(world: World) -> None:
    world.confirm("posting", "warden", "admins")


def let_members_post_where_only_admins_may(world: World) -> None:
    for posting in ("admins", "members"):
        world.confirm("posting", "warden", posting)
        world.store("room.updated", "warden", posting=posting, slow_mode_seconds=0)
        if posting == "admins":
            world.say(NOW)


def post_too_soon_in_slow_mode(world: World) -> None:
    world.say(NOW)
    world.store("room.updated", "warden", posting="members", slow_mode_seconds=1)
    world.say(SOON)


def post_while_muted(world: World) -> None:
    world.confirm("mute", "alice")
    world.store("member.updated", "alice", muted_until=LATER)
    world.say(SOON)


def lose_a_mute(world: World) -> None:
    world.confirm("mute", "alice")


def react_without_membership(world: World) -> None:
    world.confirm("react", "bob", "👍", message_id="msg_2")
    world.store("reaction.added", "bob", message_id="msg_2", emoji="👍", count=1)
    world.messages[1]["reactions"] = [{"emoji": "👍", "count": 1, "user_ids": ["bob"]}]


def lose_a_report(world: World) -> None:
    world.report()
    world.reports.clear()


def report_by_itself(world: World) -> None:
    world.report()
    world.reports.append({**world.reports[0], "report_id": "rep_2", "user_id": "warden"})


def keep_a_report_twice(world: World) -> None:
    world.report()
    world.reports.append({**world.reports[0], "report_id": "rep_2"})


def resolve_by_itself(world: World) -> None:
    world.report(status="resolved")


def lose_a_resolution(world: World) -> None:
    world.report()
    world.confirm("resolve", "warden", "rep_1")


def change_a_reported_message(world: World) -> None:
    world.report(message=message(2, content="nobody said so"))


def find_too_little(world: World) -> None:
    world.found["m-2"].clear()


def find_what_was_edited_away(world: World) -> None:
    world.found["m-1"] = [message(1, content="edited")]


def find_a_message_twice(world: World) -> None:
    world.found["m-2"].append(message(2))


def find_an_older_content(world: World) -> None:
    world.found["edited"] = [message(1)]


def lose_an_append(world: World) -> None:
    world.grow("m-2 and")


def end_a_message_otherwise(world: World) -> None:
    world.grow(state="failed")


def leave_a_message_open(world: World) -> None:
    world.grow(state="open")


def append_what_nobody_wrote(world: World) -> None:
    world.grow()
    world.frames()[-1]["text"] = " less"


def show_a_state_that_was_not(world: World) -> None:
    world.grow()
    world.frames()[-3]["message"]["stream"]["index"] = 1


def list_a_mention_that_is_not_there(world: World) -> None:
    world.mentions.append(message(2))


def lose_a_mention_of_an_edit(world: World) -> None:
    world.journal.attempts[3].mentions = ("warden",)


def lose_a_confirmed_reaction(world: World) -> None:
    world.react(is_stored=False, is_shown=False)


def show_a_reaction_that_is_not_in_the_log(world: World) -> None:
    world.react(is_stored=False)


def show_a_thread_without_replies(world: World) -> None:
    world.messages[0]["thread"] = {"reply_count": 1, "last_reply_seq": 2, "last_reply_at": "then"}


def count_a_mention_that_is_not_there(world: World) -> None:
    world.own["unread_mentions"] = 1


def lose_a_mention(world: World) -> None:
    world.journal.attempts[0].mentions = ("warden",)


def lose_a_thread(world: World) -> None:
    world.journal.attempts[1].thread_id = "msg_1"


def show_no_reaction_of_the_log(world: World) -> None:
    world.react(is_shown=False)


def show_a_pin_that_nobody_set(world: World) -> None:
    attempt = world.journal.begin("unpin", "alice", ROOM, message_id="msg_2")
    world.journal.settle(attempt, Outcome.CONFIRMED)
    world.messages[1]["pinned_at"] = "then"


def lose_a_confirmed_message(world: World) -> None:
    attempt = world.journal.begin("send", "alice", ROOM, client_message_id="m-9", content="m-9")
    world.journal.settle(attempt, Outcome.CONFIRMED, message_id="msg_9", seq=6)


def store_a_message_twice(world: World) -> None:
    world.events.append(message(6, message_id="msg_6", client_message_id="m-3", content="m-3"))


def store_a_refused_message(world: World) -> None:
    attempt = world.journal.begin("send", "alice", ROOM, client_message_id="m-6", content="m-6")
    world.journal.settle(attempt, Outcome.REFUSED)
    world.events.append(message(6))


def store_what_nobody_sent(world: World) -> None:
    world.events.append(message(6))


def leave_out_a_seq(world: World) -> None:
    del world.events[1]


def undo_an_edit(world: World) -> None:
    world.events[0]["content"] = "m-1"


def lose_an_edit(world: World) -> None:
    world.events[3] = {"type": "room.updated", "room_id": ROOM, "seq": 4}


def lose_an_ack(world: World) -> None:
    world.receipts["alice"]["last_ack"] = 1


def acknowledge_by_itself(world: World) -> None:
    world.receipts["alice"]["last_ack"] = 3


def deliver_nothing_of_one_event(world: World) -> None:
    world.forget(4)


def begin_too_late(world: World) -> None:
    world.forget(1)


def deliver_twice(world: World) -> None:
    world.stream.entries.insert(5, world.stream.entries[4])


def deliver_in_another_order(world: World) -> None:
    entries = world.stream.entries
    entries[4], entries[5] = entries[5], entries[4]


def deliver_what_was_never_stored(world: World) -> None:
    world.frames()[4]["message_id"] = "msg_of_a_lost_batch"


def deliver_another_content(world: World) -> None:
    world.frames()[4]["content"] = "nobody said so"


def deliver_after_leaving(world: World) -> None:
    world.events.append({"type": "room.updated", "room_id": ROOM, "seq": 6})
    world.receive(world.events[-1])


def show_a_shorter_log(world: World) -> None:
    world.stream.begun = world.journal.tick()  # after everybody knew of more


def complete_too_early(world: World) -> None:
    world.frames()[3]["rooms"][ROOM] = 3


def read_a_page_with_a_gap(world: World) -> None:
    del world.journal.pages[0].events[1]


def read_a_page_that_ends_early(world: World) -> None:
    world.journal.pages[0].events.clear()


@pytest.mark.parametrize(
    "fault",
    [
        lose_a_confirmed_message,
        store_a_message_twice,
        store_a_refused_message,
        store_what_nobody_sent,
        leave_out_a_seq,
        undo_an_edit,
        lose_an_edit,
        lose_an_ack,
        acknowledge_by_itself,
        deliver_nothing_of_one_event,
        begin_too_late,
        deliver_twice,
        deliver_in_another_order,
        deliver_what_was_never_stored,
        deliver_another_content,
        deliver_after_leaving,
        show_a_shorter_log,
        complete_too_early,
        read_a_page_with_a_gap,
        read_a_page_that_ends_early,
        lose_a_confirmed_reaction,
        show_a_reaction_that_is_not_in_the_log,
        show_no_reaction_of_the_log,
        show_a_pin_that_nobody_set,
        show_a_thread_without_replies,
        count_a_mention_that_is_not_there,
        lose_a_mention,
        lose_a_thread,
        lose_a_profile,
        show_an_older_profile,
        lose_a_block,
        block_by_itself,
        post_in_a_blocked_dm,
        lose_a_view,
        show_a_room_that_is_hidden,
        hide_by_itself,
        keep_a_room_hidden_in_which_others_post,
        lose_a_rule,
        let_members_post_where_only_admins_may,
        post_too_soon_in_slow_mode,
        post_while_muted,
        lose_a_mute,
        react_without_membership,
        lose_a_report,
        report_by_itself,
        keep_a_report_twice,
        resolve_by_itself,
        lose_a_resolution,
        change_a_reported_message,
        find_too_little,
        find_what_was_edited_away,
        find_a_message_twice,
        find_an_older_content,
        list_a_mention_that_is_not_there,
        lose_a_mention_of_an_edit,
        lose_an_append,
        end_a_message_otherwise,
        leave_a_message_open,
        append_what_nobody_wrote,
        show_a_state_that_was_not,
    ],
)
def test_the_verifier_sees_every_kind_of_fault(fault: Callable[[World], None]) -> None:
    world = World()
    fault(world)
    found = world.find_violations()
    assert found, fault
    print(found)
