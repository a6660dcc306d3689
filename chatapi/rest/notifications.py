"""Notifications and the topics that users subscribe to."""

from chatapi.protocol import answers, queries
from chatapi.protocol import requests as req
from chatapi.protocol.pages import read_window
from chatapi.rest.call import NO_CONTENT, Call, Response, ok
from chatapi.store.notifications import LIST_START, SUBSCRIPTIONS_START


async def notify(call: Call[req.Notify, None]) -> Response[answers.Notified]:
    """Notify users, a room's members or a topic's subscribers, each of them once."""
    return ok(await call.services.notifications.notify(call.principal, call.body), 202)


async def list_notifications(call: Call[None, queries.NotificationsQuery]) -> Response[answers.NotificationPage]:
    """List the user's notifications, the newest first."""
    query, principal = call.query, call.principal
    scope = ("notifications", principal.tenant.tenant_id, principal.user_id, query.status)
    window = read_window(query, scope, LIST_START.values())
    page = await call.services.notifications.list_of_user(principal, query.status, window)
    return ok(
        answers.NotificationPage(notifications=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope))
    )


async def ack_notification(call: Call[None, None]) -> Response[answers.AckedNotification]:
    """Acknowledge a notification, which ends its delivery to the user."""
    notification_id = call.path["notification_id"]
    await call.services.notifications.acknowledge(call.principal, notification_id)
    return ok(answers.AckedNotification(notification_id=notification_id, status="delivered"))


async def subscribe(call: Call[req.Subscribe, None]) -> Response[answers.Subscription]:
    """Subscribe the user to a topic; 200 if they are subscribed already."""
    subscription, is_new = await call.services.notifications.subscribe(call.principal, call.body.topic)
    return ok(subscription, 201 if is_new else 200)


async def list_subscriptions(call: Call[None, queries.PageQuery]) -> Response[answers.Subscriptions]:
    """List the user's subscriptions to topics."""
    principal = call.principal
    scope = ("subscriptions", principal.tenant.tenant_id, principal.user_id)
    window = read_window(call.query, scope, SUBSCRIPTIONS_START.values())
    page = await call.services.notifications.list_subscriptions(principal, window)
    return ok(
        answers.Subscriptions(subscriptions=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope))
    )


async def unsubscribe(call: Call[None, None]) -> Response[None]:
    """End a subscription of the user."""
    await call.services.notifications.unsubscribe(call.principal, call.path["subscription_id"])
    return NO_CONTENT
