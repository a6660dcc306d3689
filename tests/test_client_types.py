"""The types that the SDKs give events and answers are those of the server's records."""

import inspect
import json
import re
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from chatapi.client import AdminAPI, ChatAPI, operator_records, records, server_records
from chatapi.client import search_records as client_search_records
from chatapi.client.events import Event, LogEvent
from chatapi.client.feed import ANSWERS
from chatapi.client.frames import UNLOGGED
from chatapi.protocol import answers, audit_records, moderation_answers, operator_answers, search_records
from chatapi.protocol.server_frames import SERVER_FRAMES, ServerFrame
from chatapi.protocol.server_frames import LogEvent as ServerLogEvent

ROOT = Path(__file__).parent.parent
JAVASCRIPT = (ROOT / "chatapi/web/sdk/chatapi.js").read_text()
CONTRACT = (ROOT / "docs/contract.md").read_text()
FRAMES: dict[str, type[ServerFrame]] = {str(frame.__struct_config__.tag): frame for frame in SERVER_FRAMES}
SETTLED = {"error", "sync.gap"}  # the connection's own business
OF_ANSWERS = {"request_id"}  # whose call got it already
OF_PARTS = {"more"}  # `ready` is handed over whole

ANSWER_TYPES: dict[type, type] = {
    records.Room: answers.Room,
    records.OwnRoomPage: answers.OwnRooms,
    records.RoomPage: answers.Channels,
    records.MemberPage: answers.Members,
    records.Ban: moderation_answers.Ban,
    records.BanPage: moderation_answers.Bans,
    records.Reported: moderation_answers.Reported,
    records.Report: moderation_answers.Report,
    records.ReportPage: moderation_answers.ReportPage,
    records.User: answers.User,
    records.UserPage: answers.Users,
    records.UserBan: answers.BannedUser,
    records.Block: answers.Block,
    records.BlockPage: answers.BlockPage,
    records.Message: answers.Message,
    records.MessagePage: answers.History,
    records.MessageReactions: answers.MessageReactions,
    records.ReactionPage: answers.ReactionPage,
    records.PinnedPage: answers.PinnedMessages,
    records.Position: answers.Standing,
    records.ReceiptPage: answers.ReceiptPage,
    records.Presence: answers.Online,
    records.Notified: answers.Notified,
    records.NotificationPage: answers.NotificationPage,
    records.AckedNotification: answers.AckedNotification,
    records.Subscription: answers.Subscription,
    records.SubscriptionPage: answers.Subscriptions,
    client_search_records.SearchPage: search_records.SearchResults,
    records.UserToken: answers.UserToken,
    records.Ticket: answers.Ticket,
    server_records.ServerInfo: answers.Root,
    server_records.Status: answers.Status,
    server_records.Health: answers.Health,
    operator_records.Tenant: operator_answers.Tenant,
    operator_records.NewTenant: operator_answers.NewTenant,
    operator_records.ChangedTenant: operator_answers.UpdatedTenant,
    operator_records.TenantPage: operator_answers.Tenants,
    operator_records.NewKey: operator_answers.NewKey,
    operator_records.KeyPage: operator_answers.Keys,
    operator_records.NewTokenSecret: operator_answers.TokenSecret,
    operator_records.NewWebhookSecret: operator_answers.NewWebhookSecret,
    operator_records.DeadLetters: operator_answers.DeadLetters,
    operator_records.AuditPage: audit_records.Audit,
    operator_records.RetriedOne: operator_answers.RetriedOne,
    operator_records.RetriedAll: operator_answers.RetriedAll,
    operator_records.Stats: operator_answers.Stats,
    operator_records.Compacted: operator_answers.Compacted,
}
"""What the SDK says that a call returns, and what the server sends."""


def shape_of(kind: Any) -> Any:
    """Its JSON Schema without bounds, texts and examples, and with every reference followed."""
    [schema], components = msgspec.json.schema_components(
        [kind], schema_hook=lambda _any: {"description": "any"}, ref_template="{name}"
    )

    def strip(part: Any) -> Any:
        if isinstance(part, list):
            return sorted((strip(item) for item in part), key=json.dumps)
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return strip(
                components.get(part["$ref"], {"type": "object"})
            )  # what is not there, the document makes itself
        if set(part.get("enum", ())) and "type" not in part:
            return {"enum": sorted(part["enum"])}
        kept = {name: part[name] for name in ("type", "enum") if name in part}
        for name in ("items", "additionalProperties", "anyOf"):
            if stripped := strip(part.get(name)):
                kept[name] = stripped
        if "properties" in part:
            kept["required"] = sorted(part.get("required", ()))
            kept["properties"] = {name: strip(item) for name, item in part["properties"].items()}
        return kept

    return strip(schema)


def without(shape: Any, fields: set[str]) -> Any:
    properties = {name: part for name, part in shape["properties"].items() if name not in fields}
    return {**shape, "properties": properties, "required": [name for name in shape["required"] if name not in fields]}


def tags_of(events: Any) -> dict[str, Any]:
    """By their `type`."""
    return {get_args(typing.get_type_hints(event)["type"])[0]: event for event in get_args(events)}


def test_every_frame_that_is_handed_over_has_its_event() -> None:
    assert set(tags_of(Event)) == set(FRAMES) - (ANSWERS - {"ready"}) - {"subscribed"} - SETTLED
    assert set(tags_of(LogEvent)) == {frame.__struct_config__.tag for frame in get_args(ServerLogEvent)}


def test_the_frames_with_a_seq_that_are_not_of_the_log() -> None:
    with_both = {tag for tag, frame in FRAMES.items() if {"room_id", "seq"} <= set(frame.__struct_fields__)}
    assert with_both - set(tags_of(LogEvent)) == UNLOGGED - {"subscribed"}  # which the contract names as well
    named = re.search(r"A frame with `room_id` and `seq` belongs to the log(.*?)\.\s", CONTRACT, re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`([a-z.]+)`", named[1])) == UNLOGGED


def test_an_event_has_the_fields_of_its_frame() -> None:
    for tag, event in tags_of(Event).items():
        frame = without(shape_of(FRAMES[tag]), OF_ANSWERS | OF_PARTS)
        assert shape_of(event) == frame, tag


def test_an_answer_has_the_fields_of_its_record() -> None:
    for answer, record in ANSWER_TYPES.items():
        assert shape_of(answer) == shape_of(record), answer.__name__


def test_the_javascript_sdk_knows_the_same_events() -> None:
    typed = JAVASCRIPT[: JAVASCRIPT.index("}} EventMap")]
    typed = typed[typed.rindex("@typedef {{") :]
    own = {"*", "error", "state", "frame"}
    assert set(re.findall(r'^   "([^"]+)": ', typed, re.MULTILINE)) == set(tags_of(Event)) | own
    listed = re.search(r"const UNLOGGED = new Set\(\[(.*?)\]\)", JAVASCRIPT)
    assert listed is not None
    assert set(json.loads(f"[{listed[1]}]")) == UNLOGGED


SAME = """
type Flat<T> = { [K in keyof T]: T[K] };
type Same<A, B> = [keyof A, keyof B, Flat<A>, Flat<B>] extends [keyof B, keyof A, Flat<B>, Flat<A>] ? true : false;
"""


def typescript_of(shape: Any) -> str:
    """A shape as TypeScript has it."""
    if "anyOf" in shape:
        return " | ".join(typescript_of(option) for option in shape["anyOf"])
    if "enum" in shape:
        return " | ".join(json.dumps(value) for value in shape["enum"])
    match shape.get("type"):
        case "object" if "properties" in shape:
            required = shape["required"]
            fields = (
                f"{name}{'' if name in required else '?'}: {typescript_of(part)}"
                for name, part in shape["properties"].items()
            )
            return f"{{ {'; '.join(fields)} }}"
        case "object":
            return f"Record<string, {typescript_of(shape.get('additionalProperties', {}))}>"
        case "array":
            return f"({typescript_of(shape.get('items', {}))})[]"
        case "integer":
            return "number"
        case None:
            return "unknown"
        case plain:
            return str(plain)


def javascript_types() -> Iterator[tuple[str, str]]:
    """What chatapi.js calls a type, and what it has to be."""
    for tag in tags_of(Event):
        yield f'EventMap["{tag}"]', typescript_of(without(shape_of(FRAMES[tag]), OF_ANSWERS | OF_PARTS))
    for kind in (ChatAPI, AdminAPI):
        for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction):
            record = ANSWER_TYPES.get(typing.get_type_hints(method).get("return", object))
            if record is not None:
                camel = re.sub("_([a-z])", lambda found: found[1].upper(), name)
                yield f'Awaited<ReturnType<{kind.__name__}["{camel}"]>>', typescript_of(shape_of(record))


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_the_javascript_types_have_the_fields_of_the_records(node_packages: None, tmp_path: Path) -> None:
    checked = list(javascript_types())
    assert len(checked) > 50
    lines = [f"const _{n}: Same<{given}, {wanted}> = true;" for n, (given, wanted) in enumerate(checked)]
    source = tmp_path / "types.ts"
    imported = f'import type {{ AdminAPI, ChatAPI, EventMap }} from "{ROOT}/chatapi/web/sdk/chatapi.js";'
    source.write_text("\n".join([imported, SAME, *lines]))
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler"]
    run = subprocess.run(
        ["npx", "--no-install", "tsc", "--ignoreConfig", *options, "--lib", "es2022,dom", str(source)],
        cwd=ROOT / "tests" / "js",
        capture_output=True,
        text=True,
    )
    wrong = [checked[int(n)] for n in re.findall(r"const _(\d+)", run.stdout)]
    assert run.returncode == 0, f"{wrong}\n{run.stdout}\n{run.stderr}"
