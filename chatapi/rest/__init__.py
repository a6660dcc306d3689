"""Every REST route on one page. A handler's signature says what its route takes and answers, its docstring what for."""

from dataclasses import replace

import chatapi
from chatapi.config import Config
from chatapi.protocol import answers
from chatapi.rest import (
    audit,
    database,
    dead_letters,
    dev,
    documents,
    events,
    faults,
    health,
    mentions,
    messages,
    metrics,
    moderation,
    notifications,
    pins,
    pipe,
    reactions,
    reports,
    rooms,
    search,
    streams,
    tenants,
    tokens,
    transfers,
    user_data,
    users,
)
from chatapi.rest.call import Credential, Media, OpenCall, Response, Route, ok

_OPEN = Credential.NONE
_CONNECTION = Credential.CONNECTION
_API_KEY = Credential.API_KEY
_MASTER = Credential.MASTER

_ROOM = "/rooms/{room_id}"
_MEMBER = "/rooms/{room_id}/members/{user_id}"
_BAN = "/rooms/{room_id}/bans/{user_id}"
_MESSAGE = "/rooms/{room_id}/messages/{message_id}"
_PIPE = "/rooms/{room_id}/messages/stream"
_REACTION = "/rooms/{room_id}/messages/{message_id}/reactions/{emoji}"
_USER = "/users/{user_id}"
_BLOCK = "/blocks/{user_id}"
_SUBSCRIPTION = "/subscriptions/{subscription_id}"
_TENANT = "/admin/tenants/{tenant_id}"
_KEY = "/admin/tenants/{tenant_id}/keys/{key_id}"
_DEAD = "/admin/dead-letters"
_METRICS = "/metrics"
_DATABASE = Media.DATABASE

PLAYGROUND = "/playground"


async def openapi(call: OpenCall[None, None]) -> Response[None]:
    """Get this document."""
    return documents.serve_openapi(list_routes(call.services.config, is_dev=call.services.dev is not None), call)


async def root(call: OpenCall[None, None]) -> Response[answers.Root]:
    """Get the server's name, version and links. A browser is led to the playground."""
    config = call.services.config
    links = {
        "openapi": "/openapi.json",
        "asyncapi": "/asyncapi.json",
        "websocket": "/ws",
        "health": "/health",
        "sdk": "/sdk/chatapi.js",
    }
    if config.playground.enabled:
        links["playground"] = PLAYGROUND
    response = ok(answers.Root(name="ChatAPI", version=chatapi.__version__, links=links))
    response.page = links.get("playground")
    return response


ROUTES: tuple[Route, ...] = (
    # The most used routes come first: the router looks from the top, and each path that does not match costs 1 %.
    Route("POST", f"{_ROOM}/messages", messages.send_message, 201, also=(200, 409)),
    Route("GET", f"{_ROOM}/messages", messages.list_messages, 200),
    Route("GET", _MESSAGE, messages.get_message, 200),
    Route("PUT", _MESSAGE, messages.edit_message, 200, also=(409,)),
    Route("DELETE", _MESSAGE, messages.delete_message, 204),
    Route("GET", f"{_ROOM}/events", messages.list_events, 200),
    Route("POST", f"{_ROOM}/read", messages.read_up_to, 200),
    Route("GET", f"{_ROOM}/receipts", messages.list_receipts, 200),
    Route("POST", "/acks", messages.ack_up_to, 200, also=(403, 404)),
    Route("POST", "/rooms", rooms.create_room, 201, also=(403, 409)),
    Route("GET", "/rooms", rooms.list_rooms, 200),
    Route("GET", _ROOM, rooms.get_room, 200),
    Route("PATCH", _ROOM, rooms.update_room, 200),
    Route("DELETE", _ROOM, rooms.delete_room, 204),
    Route("PATCH", f"{_ROOM}/me", rooms.update_view, 200),
    Route("GET", f"{_ROOM}/members", rooms.list_members, 200),
    Route("POST", f"{_ROOM}/members", rooms.add_member, 201, also=(409,)),
    Route("PATCH", _MEMBER, rooms.update_member, 200, also=(409,)),
    Route("DELETE", _MEMBER, rooms.remove_member, 204, also=(409,)),
    Route("PUT", _BAN, moderation.ban_member, 200, also=(409,)),
    Route("DELETE", _BAN, moderation.unban_member, 204),
    Route("GET", f"{_ROOM}/bans", moderation.list_bans, 200),
    Route("POST", _PIPE, pipe.pipe_message, 201, also=(409,)),
    Route("PUT", _PIPE, pipe.put_pipe, 201, also=(409,)),
    Route("GET", f"{_ROOM}/presence", rooms.list_online, 200),
    Route("POST", f"{_MESSAGE}/append", streams.append_to_message, 200, also=(409,), is_append=True),
    Route("POST", f"{_MESSAGE}/finish", streams.finish_message, 200, also=(409,)),
    Route("POST", f"{_MESSAGE}/cancel", streams.cancel_message, 202, also=(409,)),
    Route("PUT", _REACTION, reactions.add_reaction, 200, also=(409,)),
    Route("DELETE", _REACTION, reactions.remove_reaction, 204),
    Route("GET", f"{_MESSAGE}/reactions", reactions.list_reactions, 200),
    Route("PUT", f"{_ROOM}/pins/{{message_id}}", pins.pin_message, 200, also=(409,)),
    Route("DELETE", f"{_ROOM}/pins/{{message_id}}", pins.unpin_message, 204),
    Route("GET", f"{_ROOM}/pins", pins.list_pins, 200),
    Route("GET", "/mentions", mentions.list_mentions, 200),
    Route("POST", f"{_MESSAGE}/report", reports.report_message, 202),
    Route("GET", "/reports", reports.list_reports, 200, _API_KEY),
    Route("POST", "/reports/{report_id}/resolve", reports.resolve_report, 200, _API_KEY),
    Route("GET", "/channels", rooms.list_channels, 200),
    Route("GET", "/search", search.search_messages, 200, also=(404,)),
    Route("POST", "/notify", notifications.notify, 202, _API_KEY, also=(404,)),
    Route("GET", "/notifications", notifications.list_notifications, 200),
    Route("POST", "/notifications/{notification_id}/ack", notifications.ack_notification, 200),
    Route("POST", "/subscriptions", notifications.subscribe, 201, also=(200,)),
    Route("GET", "/subscriptions", notifications.list_subscriptions, 200),
    Route("DELETE", _SUBSCRIPTION, notifications.unsubscribe, 204),
    Route("GET", "/users", users.list_users, 200, also=(403,)),
    Route("GET", _USER, users.get_user, 200),
    Route("PUT", _USER, users.put_user, 200),
    Route("GET", f"{_USER}/ban", users.get_ban, 200, _API_KEY),
    Route("PUT", f"{_USER}/ban", users.ban_user, 200, _API_KEY),
    Route("DELETE", f"{_USER}/ban", users.unban_user, 204, _API_KEY),
    Route("DELETE", _USER, user_data.erase_user, 200, _API_KEY, also=(202,)),
    Route("GET", f"{_USER}/export", user_data.export_user, 200, _API_KEY, media=Media.LINES, waits=True),
    Route("GET", "/blocks", users.list_blocks, 200),
    Route("PUT", _BLOCK, users.block_user, 200),
    Route("DELETE", _BLOCK, users.unblock_user, 204),
    Route("POST", "/tokens", tokens.mint_token, 201, _API_KEY),
    Route("GET", "/events/stream", events.stream_events, 200, _CONNECTION, media=Media.EVENTS, waits=True),
    Route("POST", "/sync", events.sync, 200, waits=True),
    Route("POST", "/ws/token", tokens.mint_ticket, 200),
    Route("GET", "/", root, 200, _OPEN, also=(302,)),
    Route("GET", "/livez", health.livez, 200, _OPEN),
    Route("GET", "/readyz", health.readyz, 200, _OPEN, also=(503,)),
    Route("GET", "/health", health.health, 200, _OPEN, also=(503,)),
    Route("GET", _METRICS, metrics.metrics, 200, _OPEN, media=Media.METRICS),
    Route("GET", "/openapi.json", openapi, 200, _OPEN, media=Media.JSON),
    Route("GET", "/asyncapi.json", documents.asyncapi, 200, _OPEN, media=Media.JSON),
    Route("POST", "/admin/tenants", tenants.create_tenant, 201, _MASTER),
    Route("GET", "/admin/tenants", tenants.list_tenants, 200, _MASTER),
    Route("GET", _TENANT, tenants.get_tenant, 200, _MASTER),
    Route("PATCH", _TENANT, tenants.update_tenant, 200, _MASTER),
    Route("DELETE", _TENANT, tenants.delete_tenant, 204, _MASTER),
    Route("GET", f"{_TENANT}/export", transfers.export_tenant, 200, _MASTER, also=(421,), media=_DATABASE, waits=True),
    Route(
        "POST",
        "/admin/tenants/import",
        transfers.import_tenant,
        201,
        _MASTER,
        also=(400, 408, 409),
        takes=_DATABASE,
        waits=True,
    ),
    Route("POST", f"{_TENANT}/move", tenants.move_tenant, 200, _MASTER, also=(404, 409, 503), waits=True),
    Route("POST", f"{_TENANT}/keys", tenants.create_key, 201, _MASTER),
    Route("GET", f"{_TENANT}/keys", tenants.list_keys, 200, _MASTER),
    Route("DELETE", _KEY, tenants.revoke_key, 204, _MASTER),
    Route("POST", f"{_TENANT}/token-secret", tenants.rotate_token_secret, 201, _MASTER),
    Route("POST", f"{_TENANT}/webhook-secret", tenants.rotate_webhook_secret, 201, _MASTER),
    Route("GET", _DEAD, dead_letters.list_dead_letters, 200, _MASTER, also=(404,)),
    Route("POST", f"{_DEAD}/retry", dead_letters.retry_dead_letters, 202, _MASTER, also=(404, 409)),
    Route("POST", f"{_DEAD}/{{dead_letter_id}}/retry", dead_letters.retry_dead_letter, 202, _MASTER, also=(409,)),
    Route("GET", "/admin/audit", audit.list_audit, 200, _MASTER),
    Route("GET", "/admin/stats", dead_letters.list_stats, 200, _MASTER),
    Route("POST", "/admin/compact", database.compact, 200, _MASTER, also=(409,)),
)


# Under `serve --dev` and `--test` alone. In any other mode they are as unknown as any path that nobody made.
DEV_ROUTES: tuple[Route, ...] = (
    Route("GET", "/dev/clock", dev.get_clock, 200, _MASTER),
    Route("POST", "/dev/clock", dev.advance_clock, 200, _MASTER),
    Route("GET", "/dev/faults", faults.get_faults, 200, _MASTER),
    Route("POST", "/dev/faults", faults.set_faults, 200, _MASTER),
    Route("POST", "/dev/reset", dev.reset, 204, _MASTER),
    Route("GET", "/dev/webhooks", dev.list_webhooks, 200, _MASTER),
)


def list_routes(config: Config, *, is_dev: bool = False) -> tuple[Route, ...]:
    """The routes that are served with these settings."""
    routes = ROUTES + DEV_ROUTES if is_dev else ROUTES
    if not config.metrics.enabled:
        return tuple(route for route in routes if route.path != _METRICS)
    if config.metrics.require_master_key:
        return tuple(replace(route, credential=_MASTER) if route.path == _METRICS else route for route in routes)
    return routes
