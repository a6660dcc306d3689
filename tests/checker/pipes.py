"""Messages that were written through pipes: what they have to say at the end, and what their readers saw before."""

from collections import defaultdict
from collections.abc import Iterator

from checker.growing import Replica
from checker.journal import Frame, Journal, Outcome, Pipe
from checker.truth import RoomTruth

Shown = dict[int, str]
"""By index, the text of a message that readers had of it."""


def check_pipes(journal: Journal, truth: dict[str, RoomTruth]) -> list[str]:
    """Each one ended, with all that was written into it or a beginning of it, and with all that readers saw."""
    messages = {message["message_id"]: message for room in truth.values() for message in room.messages}
    pipes = {
        event["message_id"]: journal.pipes[event["client_message_id"]]
        for room in truth.values()
        for event in room.events
        if event["type"] == "message" and event["client_message_id"] in journal.pipes
    }
    edited = {one.message_id for one in journal.attempts if one.kind == "edit" and one.outcome is not Outcome.REFUSED}
    found = [
        f"{pipe} is not stored" for pipe in journal.pipes.values() if pipe.message_id and pipe.message_id not in pipes
    ]
    shown = collect_shown(journal, pipes, found)
    for message_id, pipe in pipes.items():
        message = messages[message_id]
        if message["deleted_at"] is None:
            is_edited = message_id in edited
            found += [f"{message}: {text}" for text in find_wrong(pipe, message, shown[message_id], is_edited)]
    return found


def collect_shown(journal: Journal, pipes: dict[str, Pipe], found: list[str]) -> dict[str, Shown]:
    """What any reader had at any time. All of them have the same at the same index, and a beginning of the pipe."""
    shown: dict[str, Shown] = defaultdict(dict)
    for stream in journal.streams:
        replica = Replica(stream.user_id)
        for _, is_sent, frame in stream.entries:
            if is_sent:
                continue
            replica.take(frame)
            message_id = (frame["message"] if frame["type"] == "message.state" else frame).get("message_id", "")
            pipe, had = pipes.get(message_id), replica.find(message_id)
            if pipe is None or had is None:
                continue
            index, text = had
            if not pipe.text.startswith(text) or shown[message_id].setdefault(index, text) != text:
                found.append(f"{stream.user_id} had {text!r} at {index} of {pipe}, others {shown[message_id]}")
    return shown


def find_wrong(pipe: Pipe, message: Frame, shown: Shown, is_edited: bool) -> Iterator[str]:
    state, content = message["stream"]["state"], message["content"]
    if pipe.answer is not None and state != pipe.answer["stream"]["state"]:
        yield f"it was answered {pipe.answer}"
    elif state not in list_states(pipe):
        yield f"it cannot be {state}: {pipe}"
    if is_edited:
        return
    if not pipe.text.startswith(content) or (state == "done" and content != pipe.text):
        yield f"{pipe} is stored otherwise"
    if pipe.answer is not None and content != pipe.answer["content"]:
        yield f"it was answered {pipe.answer}"
    yield from (f"a reader had {text!r} at {index}" for index, text in shown.items() if not content.startswith(text))


def list_states(pipe: Pipe) -> set[str]:
    return {"failed", *(["cancelled"] if pipe.is_cancel_asked else []), *([pipe.whole_state] if pipe.is_whole else [])}
