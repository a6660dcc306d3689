"""The one table of what is in the audit: every route and frame that changes something, or that gives all data of a user
or tenant away, is here, with the actions that it records, or with the reason why it records none. `test_audit.py` holds
it to the routes, the frames, and the actions in the code."""

ACTS = {
    "POST /admin/tenants": ("tenant.create",),
    "PATCH /admin/tenants/{tenant_id}": ("tenant.update",),
    "DELETE /admin/tenants/{tenant_id}": ("tenant.delete",),
    "GET /admin/tenants/{tenant_id}/export": ("tenant.export",),  # changes nothing, and gives all secrets away
    "POST /admin/tenants/{tenant_id}/move": ("tenant.move",),  # its beginning, and its end
    "POST /admin/arrivals": ("tenant.arrive",),  # its beginning
    "POST /admin/arrivals/{arrival_id}/{action:rows|seal|live|abort}": ("tenant.arrive",),  # its end
    "POST /admin/tenants/import": ("tenant.import",),
    "POST /admin/tenants/{tenant_id}/keys": ("key.create",),
    "DELETE /admin/tenants/{tenant_id}/keys/{key_id}": ("key.revoke",),
    "POST /admin/tenants/{tenant_id}/token-secret": ("token_secret.rotate",),
    "POST /admin/tenants/{tenant_id}/webhook-secret": ("webhook_secret.rotate",),
    "POST /admin/dead-letters/retry": ("dead_letters.retry",),
    "POST /admin/dead-letters/{dead_letter_id}/retry": ("dead_letter.retry",),
    "PATCH /rooms/{room_id}": ("room.update",),
    "DELETE /rooms/{room_id}": ("room.delete",),
    "POST /rooms/{room_id}/members": ("member.role",),  # only if another user is added as an admin
    "PATCH /rooms/{room_id}/members/{user_id}": ("member.role", "member.mute", "member.unmute"),
    "DELETE /rooms/{room_id}/members/{user_id}": ("member.remove",),  # of others
    "PUT /rooms/{room_id}/bans/{user_id}": ("room.ban",),
    "DELETE /rooms/{room_id}/bans/{user_id}": ("room.unban",),
    "DELETE /rooms/{room_id}/messages/{message_id}": ("message.delete",),  # of others
    "FRAME message.delete": ("message.delete",),
    "PUT /users/{user_id}/ban": ("user.ban",),
    "DELETE /users/{user_id}/ban": ("user.unban",),
    "GET /users/{user_id}/export": ("user.export",),
    "DELETE /users/{user_id}": ("user.erase",),  # its beginning, and its end
    "POST /reports/{report_id}/resolve": ("report.resolve",),
}

_OWN = "what users do for themselves"
_TALK = "what all members do, and the room's log tells"
_READ = "changes nothing"
_TEST = "for test servers alone"
NO_ACTS = {
    "POST /rooms": _TALK,
    "POST /rooms/{room_id}/messages": _TALK,
    "PUT /rooms/{room_id}/messages/{message_id}": "only the sender edits a message",
    "POST /rooms/{room_id}/messages/stream": _TALK,
    "PUT /rooms/{room_id}/messages/stream": _TALK,
    "POST /rooms/{room_id}/messages/{message_id}/append": _TALK,
    "POST /rooms/{room_id}/messages/{message_id}/finish": _TALK,
    "POST /rooms/{room_id}/messages/{message_id}/cancel": "all members may ask for it, and the sender decides",
    "PUT /rooms/{room_id}/messages/{message_id}/reactions/{emoji}": _TALK,
    "DELETE /rooms/{room_id}/messages/{message_id}/reactions/{emoji}": _TALK,
    "PUT /rooms/{room_id}/pins/{message_id}": "takes nothing from anybody, and the room's log tells",
    "DELETE /rooms/{room_id}/pins/{message_id}": "takes nothing from anybody, and the room's log tells",
    "POST /rooms/{room_id}/messages/{message_id}/report": "the report itself names the user",
    "PATCH /rooms/{room_id}/me": _OWN,
    "POST /rooms/{room_id}/read": _OWN,
    "POST /acks": _OWN,
    "POST /notifications/{notification_id}/ack": _OWN,
    "POST /subscriptions": _OWN,
    "DELETE /subscriptions/{subscription_id}": _OWN,
    "PUT /users/{user_id}": _OWN,
    "PUT /blocks/{user_id}": _OWN,
    "DELETE /blocks/{user_id}": _OWN,
    "POST /notify": "what a backend sends, as often as messages",
    "POST /tokens": "what a backend does for each login",
    "POST /ws/token": _OWN,
    "POST /sync": _READ,
    "POST /admin/compact": "gives space back, and changes no data",
    "POST /dev/clock": _TEST,
    "POST /dev/faults": _TEST,
    "POST /dev/reset": _TEST,
    "FRAME send_message": _TALK,
    "FRAME message.edit": "only the sender edits a message",
    "FRAME message.append": _TALK,
    "FRAME message.finish": _TALK,
    "FRAME message.cancel": "all members may ask for it, and the sender decides",
    "FRAME reaction.add": _TALK,
    "FRAME reaction.remove": _TALK,
    "FRAME ack": _OWN,
    "FRAME read": _OWN,
    "FRAME typing.start": _READ,
    "FRAME typing.stop": _READ,
    "FRAME subscribe": _READ,
    "FRAME unsubscribe": _READ,
    "FRAME sync": _READ,
    "FRAME notification.ack": _OWN,
    "FRAME ping": _READ,
}
