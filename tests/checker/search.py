"""At the end a search finds every message that is not deleted, as it stands, and nothing else."""

from collections import Counter

from checker.truth import RoomTruth


def check_search(room: RoomTruth) -> list[str]:
    found = []
    for word, results in room.found.items():
        times = Counter(message["message_id"] for message in results)
        wanted = {
            message["message_id"]: message["content"]
            for message in room.messages
            if message["content"] is not None and word in message["content"].split()
        }
        shown = {message["message_id"]: message["content"] for message in results}
        found += [f"a search for {word!r} finds {one} {count} times" for one, count in times.items() if count > 1]
        found += [f"a search for {word!r} does not find {one}" for one in sorted(wanted.keys() - shown.keys())]
        found += [f"a search for {word!r} finds {one}: {shown[one]}" for one in sorted(shown.keys() - wanted.keys())]
        found += [
            f"a search for {word!r} shows {one} as {shown[one]}, not as {wanted[one]}"
            for one in sorted(shown.keys() & wanted.keys())
            if shown[one] != wanted[one]
        ]
    return found
