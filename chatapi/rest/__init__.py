"""Every REST route on one page: what serves it, and what the documents say of it."""

from dataclasses import replace

import chatapi
from chatapi.config import Config
from chatapi.protocol import requests as req
from chatapi.protocol import responses as res
from chatapi.rest import dead_letters, documents, health, messages, metrics, notifications, rooms, tenants, tokens
from chatapi.rest.call import Call, Credential, Media, Reply, Route, ok

_OPEN = Credential.NONE
_API_KEY = Credential.API_KEY
_MASTER = Credential.MASTER

_ROOM = "/rooms/{room_id}"
_MEMBER = "/rooms/{room_id}/members/{user_id}"
_MESSAGE = "/rooms/{room_id}/messages/{message_id}"
_SUBSCRIPTION = "/subscriptions/{subscription_id}"
_TENANT = "/admin/tenants/{tenant_id}"
_KEY = "/admin/tenants/{tenant_id}/keys/{key_id}"
_DEAD = "/admin/dead-letters"
_METRICS = "/metrics"

PLAYGROUND = "/playground"


async def openapi(call: Call) -> Reply:
    """Get this document."""
    return documents.serve_openapi(list_routes(call.services.config), call)


async def root(call: Call) -> Reply:
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
    reply = ok(res.Root(name="ChatAPI", version=chatapi.__version__, links=links))
    reply.page = links.get("playground")
    return reply


ROUTES: tuple[Route, ...] = (
    # What is asked for most stands first: the router looks from the top, and each path that does not match costs 1 %.
    Route("POST", f"{_ROOM}/messages", messages.send_message, 201, res.Message, body=req.MessageDraft, also=(200, 409)),
    Route("GET", f"{_ROOM}/messages", messages.list_messages, 200, res.History, query=req.HistoryQuery),
    Route("GET", _MESSAGE, messages.get_message, 200, res.Message),
    Route("PUT", _MESSAGE, messages.edit_message, 200, res.Message, body=req.MessageRevision),
    Route("DELETE", _MESSAGE, messages.delete_message, 204),
    Route("GET", f"{_ROOM}/events", messages.list_events, 200, res.Events, query=req.EventsQuery),
    Route("POST", f"{_ROOM}/read", messages.read_up_to, 200, res.Standing, body=req.ReadUpTo),
    Route("GET", f"{_ROOM}/receipts", messages.list_receipts, 200, res.ReceiptPage, query=req.PageQuery),
    Route("POST", "/acks", messages.ack_up_to, 200, res.Acknowledged, body=req.AckUpTo, also=(403, 404)),
    Route("POST", "/rooms", rooms.create_room, 201, res.Room, body=req.CreateRoom, also=(403, 409)),
    Route("GET", "/rooms", rooms.list_rooms, 200, res.OwnRooms, query=req.PageQuery),
    Route("GET", _ROOM, rooms.get_room, 200, res.Room),
    Route("PATCH", _ROOM, rooms.update_room, 200, res.Room, body=req.PatchRoom),
    Route("DELETE", _ROOM, rooms.delete_room, 204),
    Route("GET", f"{_ROOM}/members", rooms.list_members, 200, res.Members, query=req.PageQuery),
    Route("POST", f"{_ROOM}/members", rooms.add_member, 201, res.Member, body=req.AddMember, also=(409,)),
    Route("PATCH", _MEMBER, rooms.change_role, 200, res.Member, body=req.PatchMember, also=(409,)),
    Route("DELETE", _MEMBER, rooms.remove_member, 204, also=(409,)),
    Route("GET", f"{_ROOM}/presence", rooms.list_online, 200, res.Online),
    Route("GET", "/channels", rooms.list_channels, 200, res.Channels, query=req.PageQuery),
    Route("POST", "/notify", notifications.notify, 202, res.Notified, _API_KEY, body=req.Notify, also=(404,)),
    Route(
        "GET",
        "/notifications",
        notifications.list_notifications,
        200,
        res.NotificationPage,
        query=req.NotificationsQuery,
    ),
    Route("POST", "/notifications/{notification_id}/ack", notifications.ack_notification, 200, res.AckedNotification),
    Route("POST", "/subscriptions", notifications.subscribe, 201, res.Subscription, body=req.Subscribe, also=(200,)),
    Route("GET", "/subscriptions", notifications.list_subscriptions, 200, res.Subscriptions, query=req.PageQuery),
    Route("DELETE", _SUBSCRIPTION, notifications.unsubscribe, 204),
    Route("POST", "/tokens", tokens.mint_token, 201, res.UserToken, _API_KEY, body=req.MintToken),
    Route("POST", "/ws/token", tokens.mint_ticket, 200, res.Ticket),
    Route("GET", "/", root, 200, res.Root, _OPEN),
    Route("GET", "/livez", health.livez, 200, res.Status, _OPEN),
    Route("GET", "/readyz", health.readyz, 200, res.Status, _OPEN, also=(503,)),
    Route("GET", "/health", health.health, 200, res.Health, _OPEN, also=(503,)),
    Route("GET", _METRICS, metrics.metrics, 200, None, _OPEN, media=Media.METRICS),
    Route("GET", "/openapi.json", openapi, 200, None, _OPEN, media=Media.JSON),
    Route("GET", "/asyncapi.json", documents.asyncapi, 200, None, _OPEN, media=Media.JSON),
    Route("POST", "/admin/tenants", tenants.create_tenant, 201, res.NewTenant, _MASTER, body=req.CreateTenant),
    Route("GET", "/admin/tenants", tenants.list_tenants, 200, res.Tenants, _MASTER, query=req.PageQuery),
    Route("GET", _TENANT, tenants.get_tenant, 200, res.Tenant, _MASTER),
    Route("PATCH", _TENANT, tenants.update_tenant, 200, res.UpdatedTenant, _MASTER, body=req.PatchTenant),
    Route("DELETE", _TENANT, tenants.delete_tenant, 204, None, _MASTER),
    Route("POST", f"{_TENANT}/keys", tenants.create_key, 201, res.NewKey, _MASTER),
    Route("GET", f"{_TENANT}/keys", tenants.list_keys, 200, res.Keys, _MASTER, query=req.PageQuery),
    Route("DELETE", _KEY, tenants.revoke_key, 204, None, _MASTER),
    Route("POST", f"{_TENANT}/token-secret", tenants.rotate_token_secret, 201, res.TokenSecret, _MASTER),
    Route("POST", f"{_TENANT}/webhook-secret", tenants.rotate_webhook_secret, 201, res.NewWebhookSecret, _MASTER),
    Route(
        "GET",
        _DEAD,
        dead_letters.list_dead_letters,
        200,
        res.DeadLetters,
        _MASTER,
        query=req.DeadLettersQuery,
        also=(404,),
    ),
    Route(
        "POST",
        f"{_DEAD}/retry",
        dead_letters.retry_dead_letters,
        202,
        res.RetriedAll,
        _MASTER,
        body=req.RetryDeadLetters,
        also=(404, 409),
    ),
    Route(
        "POST",
        f"{_DEAD}/{{dead_letter_id}}/retry",
        dead_letters.retry_dead_letter,
        202,
        res.RetriedOne,
        _MASTER,
        also=(409,),
    ),
    Route("GET", "/admin/stats", dead_letters.list_stats, 200, res.Stats, _MASTER),
)


def list_routes(config: Config) -> tuple[Route, ...]:
    """Those that are served, as the settings have it."""
    if not config.metrics.enabled:
        return tuple(route for route in ROUTES if route.path != _METRICS)
    if config.metrics.require_master_key:
        return tuple(replace(route, credential=_MASTER) if route.path == _METRICS else route for route in ROUTES)
    return ROUTES
