"""Rooms and their members."""

from chatapi.models import Role, RoomType, UserId, encode_dm_key
from chatapi.store.go.run import BAD_ID, BAD_USER_ID, NO_ROOM, NO_TENANT, WRAPPED, Run
from chatapi.store.go.values import clean_text, encode_object, is_public_id, parse_role, parse_room_type

# The oldest first: of two dms of the same users it is the one that stays a dm.
_OLD_ROOMS = """
    SELECT r.room_id, r.type, r.name, r.metadata, go_time(r.created_at), r.tenant_id, t.tenant_key
    FROM old_rooms AS r LEFT JOIN tenant_map AS t ON t.tenant_id = r.tenant_id
    ORDER BY 5, 1
"""
_OLD_MEMBERS = """
    SELECT user_id, role, coalesce(go_time(joined_at), :created_at_us) FROM old_members
    WHERE room_id = :room_id AND tenant_id = :tenant_id AND is_user_id(CAST(user_id AS BLOB))
    ORDER BY 3, 1
"""
_FIND_ROOM = """
    SELECT room_key, type, coalesce((SELECT max(seq) FROM main.messages AS m WHERE m.room_key = r.room_key), 0),
        deleted_at_us IS NULL AND pruned_seq = 0
        AND NOT EXISTS (SELECT 1 FROM main.changes AS c WHERE c.room_key = r.room_key)
        AND NOT EXISTS (SELECT 1 FROM main.messages AS m WHERE m.room_key = r.room_key AND m.imported_id IS NULL)
    FROM main.rooms AS r WHERE tenant_key = :tenant_key AND room_id = :room_id
"""
_FIND_DM = "SELECT 1 FROM main.rooms WHERE tenant_key = :tenant_key AND unique_key = :unique_key"
_INSERT_ROOM = """
    INSERT INTO main.rooms (tenant_key, room_id, type, unique_key, name, metadata, created_by, created_at_us,
                            updated_at_us)
    VALUES (:tenant_key, :room_id, :type, :unique_key, :name, :metadata, :created_by, :created_at_us, :created_at_us)
    RETURNING room_key
"""
_MAP_ROOM = """
    INSERT INTO room_map (room_id, tenant_id, tenant_key, room_key, created_at_us, last_seq, is_open, is_new)
    VALUES (:room_id, :tenant_id, :tenant_key, :room_key, :created_at_us, :last_seq, :is_open, :is_new)
"""
_INSERT_MEMBER = """
    INSERT INTO main.members (room_key, user_id, tenant_key, role, joined_at_us)
    VALUES (:room_key, :user_id, :tenant_key, :role, :joined_at_us)
    ON CONFLICT (room_key, user_id) DO NOTHING
"""
_PROMOTE_FIRST_MEMBERS = """
    UPDATE main.members SET role = 'admin'
    FROM (
        SELECT m.room_key AS room_key, m.user_id AS user_id,
               row_number() OVER (PARTITION BY m.room_key ORDER BY m.joined_at_us, m.user_id) AS rank,
               max(m.role = 'admin') OVER (PARTITION BY m.room_key) AS has_admin
        FROM room_map AS t CROSS JOIN main.rooms AS r CROSS JOIN main.members AS m
        WHERE t.is_open AND r.room_key = t.room_key AND r.type <> 'dm' AND m.room_key = t.room_key
    ) AS s
    WHERE s.rank = 1 AND NOT s.has_admin AND members.room_key = s.room_key AND members.user_id = s.user_id
"""
_MEMBERS_WITHOUT_ROOM = """
    SELECT count(*) FROM old_members AS m
    WHERE NOT EXISTS (SELECT 1 FROM room_map AS t WHERE t.room_id = m.room_id AND t.tenant_id = m.tenant_id)
"""
_MEMBERS_WITH_BAD_ID = """
    SELECT count(*) FROM old_members AS m JOIN room_map AS t ON t.room_id = m.room_id AND t.tenant_id = m.tenant_id
    WHERE NOT is_user_id(CAST(m.user_id AS BLOB))
"""


def take_rooms(run: Run) -> None:
    for row in run.connection.execute(_OLD_ROOMS).fetchall():
        room_id, _type, _name, _metadata, _created, _tenant_id, tenant_key = row
        if tenant_key is None:
            run.report.skip("rooms", NO_TENANT)
        elif not is_public_id(room_id):
            run.report.skip("rooms", BAD_ID)
        else:
            _take_room(run, *row)
    run.report.remark(
        "rooms",
        "had no admin: their longest-standing member is the admin now",
        run.connection.execute(_PROMOTE_FIRST_MEMBERS).rowcount,
    )
    run.report.skip("members", NO_ROOM, run.number(_MEMBERS_WITHOUT_ROOM))
    run.report.skip("members", BAD_USER_ID, run.number(_MEMBERS_WITH_BAD_ID))


def _take_room(
    run: Run,
    room_id: str,
    old_type: object,
    name: object,
    metadata: object,
    created_at_us: int | None,
    tenant_id: str,
    tenant_key: int,
) -> None:
    scope = {"room_id": room_id, "tenant_id": tenant_id, "tenant_key": tenant_key}
    scope["created_at_us"] = created_at_us or run.now_us
    members = run.connection.execute(_OLD_MEMBERS, scope).fetchall()
    known = run.connection.execute(_FIND_ROOM, scope).fetchone()
    if known is None:
        room_type, unique_key = _choose_type(run, old_type, tenant_key, [user_id for user_id, _, _ in members])
        stored_metadata, is_wrapped = encode_object(metadata)
        run.report.remark("rooms", WRAPPED, is_wrapped)
        row = {
            **scope,
            "type": room_type,
            "unique_key": unique_key,
            "name": clean_text(name) or None,
            "metadata": stored_metadata,
            "created_by": members[0][0] if members else "unknown",
        }
        room_key = run.connection.execute(_INSERT_ROOM, row).fetchone()[0]
        run.report.counts["rooms"].imported += 1
        last_seq, is_open = 0, True
    else:
        room_key, room_type, last_seq, is_open = known
        if not is_open or room_type == RoomType.DM:
            members = []  # as they are here; a dm's are fixed
    _insert_members(run, tenant_key, room_key, room_type, members)
    mapped = {**scope, "room_key": room_key, "last_seq": last_seq, "is_open": is_open, "is_new": known is None}
    run.connection.execute(_MAP_ROOM, mapped)


def _choose_type(run: Run, old_type: object, tenant_key: int, user_ids: list[str]) -> tuple[RoomType, str | None]:
    """The room's type here, and a dm's unique_key."""
    room_type = parse_room_type(old_type)
    if room_type is RoomType.DM:
        if len(user_ids) == 2:
            unique_key = encode_dm_key(UserId(user_ids[0]), UserId(user_ids[1]))
            scope = {"tenant_key": tenant_key, "unique_key": unique_key}
            if run.connection.execute(_FIND_DM, scope).fetchone() is None:
                return RoomType.DM, unique_key
            run.report.remark("rooms", "are groups now: second dms of the same two users")
        else:
            run.report.remark("rooms", "are groups now: dms without exactly two members with valid ids")
    elif room_type is None:
        run.report.remark("rooms", "are groups now: of an unknown type")
    else:
        return room_type, None
    return RoomType.GROUP, None


def _insert_members(
    run: Run, tenant_key: int, room_key: int, room_type: str, members: list[tuple[str, object, int]]
) -> None:
    rows = [
        {
            "tenant_key": tenant_key,
            "room_key": room_key,
            "user_id": user_id,
            "role": Role.MEMBER if room_type == RoomType.DM else parse_role(role),
            "joined_at_us": joined_at_us,
        }
        for user_id, role, joined_at_us in members
    ]
    run.report.counts["members"].imported += run.connection.executemany(_INSERT_MEMBER, rows).rowcount
