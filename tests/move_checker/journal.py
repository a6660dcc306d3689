"""What the clients were told, whichever SDK they use."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Notes:
    """Of one client. `confirmed` are its messages in the order of sending, `heard` the `seq`s of each room."""

    confirmed: list[tuple[str, int, str]] = field(default_factory=list)  # (room, seq, text)
    streamed: list[tuple[str, str, str]] = field(default_factory=list)  # (room, message_id, text)
    heard: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def progress(self) -> int:
        return len(self.confirmed) + len(self.streamed)


class Journal:
    def __init__(self) -> None:
        self.clients: dict[str, Notes] = defaultdict(Notes)
        self.faults: list[str] = []
        self.traces: dict[str, str] = {}  # the last frames of clients that were asked for them
        self.counts: Counter[str] = Counter()

    def note(self, record: dict[str, Any]) -> None:
        """One line of a client."""
        notes, room = self.clients[record["who"]], record.get("room", "")
        match record["kind"]:
            case "confirmed":
                notes.confirmed.append((room, record["seq"], record["text"]))
            case "streamed":
                notes.streamed.append((room, record["message_id"], record["text"]))
            case "heard":
                notes.heard[room].append(record["seq"])
            case "repeated":
                pass  # a call that an app makes again, with the same client_message_id
            case "trace":
                self.traces[record["who"]] = record["text"]
            case _:
                self.faults.append(f"{record['who']} did not carry on: {record['text']}")
        self.counts[record["kind"]] += 1
