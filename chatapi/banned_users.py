"""The users who are banned from their whole tenant, in memory: every request asks for them."""

from typing import TYPE_CHECKING, NamedTuple

from chatapi.clock import Clock, rule_time_us
from chatapi.errors import ChatError, conflict, forbidden
from chatapi.models import UserId, encode_time

if TYPE_CHECKING:
    from chatapi.models import TenantState

USER_BANNED = 4003
"""The close code of the connections of a banned user."""


class UserBan(NamedTuple):
    """`until_us` is None for a ban without an end."""

    reason: str | None
    until_us: int | None

    @property
    def banned_until(self) -> str | None:
        return None if self.until_us is None else encode_time(self.until_us)


class BannedUsers:
    """Those of one tenant, as committed. A tenant that has never banned anybody has no such object."""

    __slots__ = ("_bans", "_clock", "erasing")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bans: dict[UserId, UserBan] = {}
        self.erasing: set[UserId] = set()
        """Users whose data is being erased: they are refused as well, until it is done."""

    def find(self, user_id: str) -> UserBan | None:
        """The ban that is in force now."""
        ban = self._bans.get(UserId(user_id))
        return None if ban is None or not self._is_in_force(ban) else ban

    def put(self, user_id: UserId, ban: UserBan) -> None:
        """Forgets those that have ended."""
        self._bans = {other: found for other, found in self._bans.items() if self._is_in_force(found)} | {user_id: ban}

    def load(self, user_id: UserId, ban: UserBan) -> None:
        self._bans[user_id] = ban

    def remove(self, user_id: UserId) -> None:
        self._bans.pop(user_id, None)

    def list_ids(self) -> list[UserId]:
        """The users with a ban that is in force now, and those whose data is being erased."""
        banned = [user_id for user_id, ban in self._bans.items() if self._is_in_force(ban)]
        return [*banned, *self.erasing.difference(banned)]

    def _is_in_force(self, ban: UserBan) -> bool:
        return ban.until_us is None or ban.until_us > rule_time_us(self._clock)


def is_banned(tenant: "TenantState", user_id: str) -> bool:
    """Or is being erased: neither can act."""
    return tenant.bans is not None and (tenant.bans.find(user_id) is not None or user_id in tenant.bans.erasing)


def check_not_erasing(tenant: "TenantState", user_id: str) -> None:
    """Raises ChatError CONFLICT: until all of a user is erased nobody may give them anything new."""
    if tenant.bans is not None and user_id in tenant.bans.erasing:
        raise conflict("This user's data is being erased")


def check_user_not_banned(tenant: "TenantState", user_id: str) -> None:
    """Raises ChatError for a user who is banned from the tenant. Asked when a request comes, and again in its write's
    own turn."""
    if tenant.bans is None:
        return
    if user_id in tenant.bans.erasing:
        raise forbidden("This user's data is being erased")
    ban = tenant.bans.find(user_id)
    if ban is not None:
        raise refuse_banned(ban)


def refuse_banned(ban: UserBan) -> ChatError:
    until = ban.banned_until
    return forbidden("You are banned" if until is None else f"You are banned until {until}", {"banned_until": until})
