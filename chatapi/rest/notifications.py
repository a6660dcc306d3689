"""Notifications and the topics that users subscribe to."""

from chatapi.protocol.replies import encode_page, join_json
from chatapi.rest.call import NO_CONTENT, Call, Reply, ok


async def notify(call: Call) -> Reply:
    """Notify users, a room's members or a topic's subscribers, each once and durably."""
    return ok(await call.services.notifications.notify(call.principal, call.body), 202)


async def list_notifications(call: Call) -> Reply:
    """The caller's notifications, the newest first."""
    query = call.query
    page, has_more = await call.services.notifications.list_of_user(
        call.principal, query.status, query.limit, query.offset
    )
    return Reply(200, encode_page(b"notifications", join_json(page), has_more))


async def ack_notification(call: Call) -> Reply:
    """End a notification's delivery to the caller."""
    notification_id = call.path["notification_id"]
    await call.services.notifications.acknowledge(call.principal, notification_id)
    return ok({"notification_id": notification_id, "status": "delivered"})


async def subscribe(call: Call) -> Reply:
    """Subscribe the caller to a topic; 200 if it was already."""
    subscription, is_new = await call.services.notifications.subscribe(call.principal, call.body.topic)
    return ok(subscription, 201 if is_new else 200)


async def list_subscriptions(call: Call) -> Reply:
    """The caller's topics."""
    subscriptions, has_more = await call.services.notifications.list_subscriptions(
        call.principal, call.query.limit, call.query.offset
    )
    return ok({"subscriptions": subscriptions, "has_more": has_more})


async def unsubscribe(call: Call) -> Reply:
    """End a subscription of the caller."""
    await call.services.notifications.unsubscribe(call.principal, call.path["subscription_id"])
    return NO_CONTENT
