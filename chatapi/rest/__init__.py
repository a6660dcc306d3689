"""Every REST route on one page."""

from chatapi.protocol import requests as req
from chatapi.rest import dead_letters, health, messages, notifications, rooms, tenants, tokens
from chatapi.rest.call import Credential, Route

_OPEN = Credential.NONE
_API_KEY = Credential.API_KEY
_MASTER = Credential.MASTER

_ROOM = "/rooms/{room_id}"
_MEMBER = "/rooms/{room_id}/members/{user_id}"
_MESSAGE = "/rooms/{room_id}/messages/{message_id}"
_TENANT = "/admin/tenants/{tenant_id}"

ROUTES: tuple[Route, ...] = (
    Route("POST", "/rooms", rooms.create_room, body=req.CreateRoom),
    Route("GET", "/rooms", rooms.list_rooms, query=req.PageQuery),
    Route("GET", _ROOM, rooms.get_room),
    Route("PATCH", _ROOM, rooms.update_room, body=req.PatchRoom),
    Route("DELETE", _ROOM, rooms.delete_room),
    Route("GET", f"{_ROOM}/members", rooms.list_members, query=req.PageQuery),
    Route("POST", f"{_ROOM}/members", rooms.add_member, body=req.AddMember),
    Route("PATCH", _MEMBER, rooms.change_role, body=req.PatchMember),
    Route("DELETE", _MEMBER, rooms.remove_member),
    Route("GET", f"{_ROOM}/presence", rooms.list_online),
    Route("GET", "/channels", rooms.list_channels, query=req.PageQuery),
    Route("POST", f"{_ROOM}/messages", messages.send_message, body=req.MessageDraft),
    Route("GET", f"{_ROOM}/messages", messages.list_messages, query=req.HistoryQuery),
    Route("GET", _MESSAGE, messages.get_message),
    Route("PUT", _MESSAGE, messages.edit_message, body=req.MessageRevision),
    Route("DELETE", _MESSAGE, messages.delete_message),
    Route("GET", f"{_ROOM}/events", messages.list_events, query=req.EventsQuery),
    Route("POST", f"{_ROOM}/read", messages.read_up_to, body=req.ReadUpTo),
    Route("GET", f"{_ROOM}/receipts", messages.list_receipts, query=req.PageQuery),
    Route("POST", "/acks", messages.acknowledge, body=req.AckUpTo),
    Route("POST", "/notify", notifications.notify, _API_KEY, body=req.Notify),
    Route("GET", "/notifications", notifications.list_notifications, query=req.NotificationsQuery),
    Route("POST", "/notifications/{notification_id}/ack", notifications.acknowledge),
    Route("POST", "/subscriptions", notifications.subscribe, body=req.Subscribe),
    Route("GET", "/subscriptions", notifications.list_subscriptions, query=req.PageQuery),
    Route("DELETE", "/subscriptions/{subscription_id}", notifications.unsubscribe),
    Route("POST", "/tokens", tokens.mint_token, _API_KEY, body=req.MintToken),
    Route("POST", "/ws/token", tokens.mint_ticket),
    Route("GET", "/livez", health.livez, _OPEN),
    Route("GET", "/readyz", health.readyz, _OPEN),
    Route("GET", "/health", health.health, _OPEN),
    Route("POST", "/admin/tenants", tenants.create_tenant, _MASTER, body=req.CreateTenant),
    Route("GET", "/admin/tenants", tenants.list_tenants, _MASTER, query=req.PageQuery),
    Route("GET", _TENANT, tenants.get_tenant, _MASTER),
    Route("PATCH", _TENANT, tenants.update_tenant, _MASTER, body=req.PatchTenant),
    Route("DELETE", _TENANT, tenants.delete_tenant, _MASTER),
    Route("POST", f"{_TENANT}/keys", tenants.create_key, _MASTER),
    Route("GET", f"{_TENANT}/keys", tenants.list_keys, _MASTER, query=req.PageQuery),
    Route("DELETE", f"{_TENANT}/keys/{{key_id}}", tenants.revoke_key, _MASTER),
    Route("POST", f"{_TENANT}/token-secret", tenants.rotate_token_secret, _MASTER),
    Route("POST", f"{_TENANT}/webhook-secret", tenants.rotate_webhook_secret, _MASTER),
    Route("GET", "/admin/dead-letters", dead_letters.list_dead_letters, _MASTER, query=req.DeadLettersQuery),
    Route("POST", "/admin/dead-letters/retry", dead_letters.retry_all, _MASTER, body=req.RetryDeadLetters),
    Route("POST", "/admin/dead-letters/{dead_letter_id}/retry", dead_letters.retry, _MASTER),
    Route("GET", "/admin/stats", dead_letters.list_stats, _MASTER),
)
