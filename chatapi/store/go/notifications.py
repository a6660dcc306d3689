"""Subscriptions, and notifications that are still to be delivered."""

from chatapi.protocol.json import dumps_text
from chatapi.store.go.run import BAD_USER_ID, NO_TENANT, Run
from chatapi.store.go.values import clean_text, is_user_id, parse_json

_OLD_SUBSCRIPTIONS = """
    SELECT t.tenant_key, t.is_new, s.user_id, s.topic, s.endpoint, coalesce(go_time(s.created_at), :now_us)
    FROM old_subscriptions AS s LEFT JOIN tenant_map AS t ON t.tenant_id = s.tenant_id ORDER BY 6
"""
_LAST_SUBSCRIPTION_KEY = "SELECT coalesce(max(subscription_key), 0) FROM main.subscriptions"
_LAST_NOTIFICATION_KEY = "SELECT coalesce(max(notification_key), 0) FROM main.notifications"
_FIND_SUBSCRIPTION = """
    SELECT 1 FROM main.subscriptions WHERE tenant_key = :tenant_key AND topic = :topic AND user_id = :user_id
"""
_INSERT_SUBSCRIPTION = """
    INSERT INTO main.subscriptions (subscription_key, tenant_key, user_id, topic, created_at_us)
    VALUES (:subscription_key, :tenant_key, :user_id, :topic, :created_at_us)
"""
_OLD_NOTIFICATIONS = """
    SELECT t.tenant_key, t.is_new, n.topic, n.payload, coalesce(go_time(n.created_at), :now_us), n.status, n.targets
    FROM old_notifications AS n LEFT JOIN tenant_map AS t ON t.tenant_id = n.tenant_id ORDER BY 5
"""
_INSERT_NOTIFICATION = """
    INSERT INTO main.notifications (notification_key, tenant_key, topic, payload, created_at_us)
    VALUES (:notification_key, :tenant_key, :topic, :payload, :created_at_us)
"""
_INSERT_RECIPIENT = """
    INSERT INTO main.notification_recipients (tenant_key, user_id, notification_key)
    VALUES (:tenant_key, :user_id, :notification_key)
"""
_ROOM_USERS = """
    SELECT m.user_id FROM main.rooms AS r JOIN main.members AS m ON m.room_key = r.room_key
    WHERE r.tenant_key = :tenant_key AND r.room_id = :room_id AND r.deleted_at_us IS NULL
"""
_TOPIC_USERS = "SELECT user_id FROM main.subscriptions WHERE tenant_key = :tenant_key AND topic = :topic"


def take_subscriptions(run: Run) -> None:
    make_key = run.make_keys(run.number(_LAST_SUBSCRIPTION_KEY))
    for tenant_key, is_new_tenant, user_id, topic, endpoint, created_at_us in run.connection.execute(
        _OLD_SUBSCRIPTIONS, {"now_us": run.now_us}
    ).fetchall():
        row = {"tenant_key": tenant_key, "user_id": user_id, "topic": clean_text(topic)}
        if tenant_key is None:
            run.report.skip("subscriptions", NO_TENANT)
        elif not is_user_id(user_id.encode()):
            run.report.skip("subscriptions", BAD_USER_ID)
        elif run.connection.execute(_FIND_SUBSCRIPTION, row).fetchone():
            continue
        elif not is_new_tenant:
            run.report.skip("subscriptions", "their tenant was imported before, and users may have unsubscribed")
        else:
            row |= {"subscription_key": make_key(created_at_us), "created_at_us": created_at_us}
            run.connection.execute(_INSERT_SUBSCRIPTION, row)
            run.report.counts["subscriptions"].imported += 1
            run.report.remark("subscriptions", "without their endpoint: a tenant has one webhook_url", bool(endpoint))


def take_notifications(run: Run) -> None:
    make_key = run.make_keys(run.number(_LAST_NOTIFICATION_KEY))
    for tenant_key, is_new_tenant, topic, payload, created_at_us, status, targets in run.connection.execute(
        _OLD_NOTIFICATIONS, {"now_us": run.now_us}
    ).fetchall():
        if tenant_key is None:
            run.report.skip("notifications", NO_TENANT)
        elif status not in ("pending", "processing"):
            run.report.skip("notifications", "no longer pending")
        elif not is_new_tenant:
            run.report.skip("notifications", "their tenant was imported before, with what was pending then")
        elif not (recipients := _find_recipients(run, tenant_key, clean_text(topic), parse_json(targets or "{}"))):
            run.report.skip("notifications", "for whom they are was not recorded")
        else:
            row = {
                "notification_key": make_key(created_at_us),
                "tenant_key": tenant_key,
                "topic": clean_text(topic),
                "payload": dumps_text(parse_json(payload)),
                "created_at_us": created_at_us,
            }
            run.connection.execute(_INSERT_NOTIFICATION, row)
            run.connection.executemany(_INSERT_RECIPIENT, [{**row, "user_id": user_id} for user_id in recipients])
            run.report.counts["notifications"].imported += 1


def _find_recipients(run: Run, tenant_key: int, topic: str, targets: object) -> set[str]:
    """The union of the targets, which have the form of `POST /notify`."""
    if not isinstance(targets, dict):
        return set()
    recipients = set()
    if isinstance(user_ids := targets.get("user_ids"), list):
        recipients = {user_id for user_id in user_ids if isinstance(user_id, str) and is_user_id(user_id.encode())}
    scope = {"tenant_key": tenant_key, "topic": topic, "room_id": str(targets.get("room_id"))}
    if targets.get("room_id"):
        recipients |= {user_id for (user_id,) in run.connection.execute(_ROOM_USERS, scope)}
    if targets.get("topic_subscribers"):
        recipients |= {user_id for (user_id,) in run.connection.execute(_TOPIC_USERS, scope)}
    return recipients
