"""The checker as CI runs it, and that its verifier sees what it is there to see."""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from checker import clients
from checker.growing import Replica
from checker.journal import Frame, Growing, Journal, Outcome, Pipe
from checker.listeners import Listener
from checker.run import Run
from checker.sample import ROOM, World, message
from checker.wire import Wire
from driver import Server, eventually

CYCLES, SECONDS = 60, 100.0  # whichever comes first: a busy machine kills its server less often


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_is_lost_over_random_kills(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    end_s = time.monotonic() + SECONDS
    report = await Run(tmp_path, seed).run(lambda cycles: cycles >= CYCLES or time.monotonic() >= end_s)
    print(report)
    assert report.kills
    assert report.counts["send confirmed"] > 200
    assert report.counts["pipes done"]
    assert report.counts["event streams"]
    assert report.counts["polls answered 200"]
    assert report.counts["calls of the backend"] > 200
    assert not report.violations


async def test_a_connection_that_the_server_has_closed_stays_behind_nothing(server: Server) -> None:
    """Its device does not come back as long as all pause."""
    alice, wire = server.user("alice"), Wire(server.url, server.api_key)
    room_id = await alice.make_room("bob")
    message_id = (await alice.say(room_id, "m", stream=True))["message_id"]
    world = clients.World(Journal(), wire, seed=0, user_ids=["bob"])
    growing = world.journal.growing[message_id] = Growing(room_id, message_id, "m", [" and"])
    device = Listener(world, "bob", 0)
    living = asyncio.create_task(device.live("backlog", device.listen))
    await eventually(lambda: device.replica.list_open() and device.stream)
    assert device.stream is not None
    stream = device.stream
    growing.confirmed = 1  # of which no delta comes
    await eventually(lambda: device.find_missing(stream, {}) == f"{message_id} is at append 0 of 1")
    await alice.put("/users/bob/ban", {"reason": "a break"})
    await eventually(lambda: not device.find_missing(stream, {}))
    assert device.stream is stream
    world.acting.set()
    await living
    await wire.close()


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "member.left", "room_id": ROOM, "user_id": "bob", "seq": 5},
        {"type": "member.banned", "room_id": ROOM, "user_id": "bob", "seq": 5},
        {"type": "unsubscribed", "room_id": ROOM},
        {"type": "sync.gap", "room_id": ROOM, "from_seq": 4, "to_seq": 9},
    ],
)
def test_a_replica_keeps_no_message_whose_end_it_may_miss(frame: Frame) -> None:
    replica = Replica("bob")
    kept = {"type": "message.state", "message": message(1, room_id="room_2", stream={"state": "open", "index": 1})}
    for shown in (message(2, stream={"state": "open", "index": 0}), kept):
        replica.take(shown)
    replica.take({**frame, "room_id": "room_3"})
    replica.take({**frame, "user_id": "alice", "room_id": ROOM if "user_id" in frame else "room_3"})
    assert replica.list_open() == ["msg_2", "msg_1"]
    replica.take(frame)
    assert replica.list_open() == ["msg_1"]


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


def test_an_end_that_is_repeated_without_its_content_is_no_violation() -> None:
    world = World()
    unheard = world.journal.begin("finish", "alice", ROOM, message_id="msg_2", state="done", content="m-2 at last")
    world.journal.settle(unheard, Outcome.UNKNOWN)
    world.grow("m-2 at last")
    assert world.find_violations() == []


@pytest.mark.parametrize(("content", "state"), [("m-3 and more", "done"), ("m-3 and", "failed")])
def test_a_pipe_is_no_violation(content: str, state: str) -> None:
    world = World()
    world.pipe(content, state)
    assert world.find_violations() == []


def test_a_poll_is_no_violation() -> None:
    world = World()
    world.poll()
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


def lose_a_piece_of_a_pipe(world: World) -> None:
    world.pipe("m-3 more")


def lose_what_readers_saw_of_a_pipe(world: World) -> None:
    world.pipe("m-3", "failed")


def lose_what_came_last_through_a_pipe(world: World) -> None:
    world.pipe("m-3 and")


def lose_a_pipe_that_was_named(world: World) -> None:
    world.pipe()
    world.journal.pipes["m-9"] = Pipe(ROOM, "m-9", "done", message_id="msg_9")


def end_a_pipe_that_broke_off(world: World) -> None:
    world.pipe().is_whole = False


def cancel_a_pipe_by_itself(world: World) -> None:
    world.pipe(state="cancelled")


def answer_a_pipe_otherwise(world: World) -> None:
    answer = message(3, content="m-3 and", stream={"state": "cancelled"})
    world.pipe(answer=answer, is_cancel_asked=True)


def leave_a_pipe_open(world: World) -> None:
    world.pipe(state="open")


def show_a_pipe_what_nobody_wrote(world: World) -> None:
    world.pipe()
    world.frames()[-1]["text"] = " less"


def leave_an_event_out_of_a_poll(world: World) -> None:
    del world.poll()["events"][1]


def answer_a_poll_with_what_it_had(world: World) -> None:
    answer = world.poll()
    answer["events"].insert(0, world.events[0])


def end_a_poll_too_early(world: World) -> None:
    answer = world.poll()
    answer["events"].clear()
    answer["rooms"][ROOM] = 1


def set_a_poll_back_by_itself(world: World) -> None:
    answer = world.poll()
    answer["reset"][ROOM] = 1


def forget_a_room_of_a_poll(world: World) -> None:
    answer = world.poll()
    answer["events"].clear()
    answer["rooms"].clear()


def answer_a_poll_and_refuse_it(world: World) -> None:
    world.poll()["errors"][ROOM] = {"code": "AUTHORIZATION_ERROR"}


def show_a_poll_what_nobody_wrote(world: World) -> None:
    world.poll()["events"][0]["content"] = "m-7"


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
        lose_a_piece_of_a_pipe,
        lose_what_readers_saw_of_a_pipe,
        lose_what_came_last_through_a_pipe,
        lose_a_pipe_that_was_named,
        end_a_pipe_that_broke_off,
        cancel_a_pipe_by_itself,
        answer_a_pipe_otherwise,
        leave_a_pipe_open,
        show_a_pipe_what_nobody_wrote,
        leave_an_event_out_of_a_poll,
        answer_a_poll_with_what_it_had,
        end_a_poll_too_early,
        set_a_poll_back_by_itself,
        forget_a_room_of_a_poll,
        answer_a_poll_and_refuse_it,
        show_a_poll_what_nobody_wrote,
    ],
)
def test_the_verifier_sees_every_kind_of_fault(fault: Callable[[World], None]) -> None:
    world = World()
    fault(world)
    found = world.find_violations()
    assert found, fault
    print(found)
