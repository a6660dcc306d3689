"""Users and their profiles."""

from chatapi.models import UserId
from chatapi.protocol import answers
from chatapi.protocol import user_requests as req
from chatapi.protocol.moderation_requests import BanUser
from chatapi.protocol.pages import Page, Value, read_window
from chatapi.protocol.queries import PageQuery
from chatapi.protocol.requests import parse_user_id
from chatapi.rest.call import NO_CONTENT, Call, Response, ok
from chatapi.store import blocks as store_blocks
from chatapi.store.blocks import BLOCKS_START
from chatapi.store.prefixes import PREFIX_START


async def get_user(call: Call[None, None]) -> Response[answers.User]:
    """Get a user's profile."""
    return ok(await call.services.profiles.get_user(call.principal, call.path["user_id"]))


async def put_user(call: Call[req.PutUser, None]) -> Response[answers.User]:
    """Write a user's profile: the users their own, the API key everybody's. An absent field stays, null clears it."""
    user_id = parse_user_id(call.path["user_id"])
    return ok(await call.services.profiles.put_user(call.principal, user_id, call.body))


async def list_users(call: Call[None, req.UsersQuery]) -> Response[answers.Users]:
    """Get several profiles by their ids or, with the API key, by the beginning of the name or id."""
    tenant, query = call.principal.tenant, call.query
    scope: tuple[Value, ...]
    page: Page
    if isinstance(query.q, str):
        scope = ("users", tenant.tenant_id, query.q)
        window = read_window(query.page(50), scope, PREFIX_START.values())
        page = await call.services.profiles.search_users(call.principal, query.q, window)
    else:
        user_ids = query.parse_ids()
        scope = ("users", tenant.tenant_id, call.principal.user_id, *user_ids)
        window = read_window(query.page(req.MAX_USER_IDS), scope, (0,))
        page = await call.services.profiles.list_users(call.principal, user_ids, window)
    return ok(answers.Users(users=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def get_ban(call: Call[None, None]) -> Response[answers.BannedUser]:
    """Get the ban of a user from the tenant."""
    return ok(call.services.tenant_bans.get_ban(call.principal.tenant, call.path["user_id"]))


async def ban_user(call: Call[BanUser, None]) -> Response[answers.BannedUser]:
    """Ban a user from the whole tenant: their connections close, and all that they ask for is refused."""
    user_id = parse_user_id(call.path["user_id"])
    return ok(await call.services.tenant_bans.ban_user(call.principal.tenant, call.actor, user_id, call.body))


async def unban_user(call: Call[None, None]) -> Response[None]:
    """End the ban of a user. Their tokens and tickets hold again."""
    await call.services.tenant_bans.unban_user(call.principal.tenant, call.actor, UserId(call.path["user_id"]))
    return NO_CONTENT


async def block_user(call: Call[None, None]) -> Response[answers.Block]:
    """Want no dm from a user: neither may open one, or post in theirs."""
    return ok(await call.services.blocks.block(call.principal, parse_user_id(call.path["user_id"])))


async def unblock_user(call: Call[None, None]) -> Response[None]:
    """End one's block of a user."""
    await call.services.blocks.unblock(call.principal, UserId(call.path["user_id"]))
    return NO_CONTENT


async def list_blocks(call: Call[None, PageQuery]) -> Response[answers.BlockPage]:
    """List the users whom the user has blocked, the latest first."""
    tenant, user_id = call.principal.tenant, call.principal.user_id
    scope = ("blocks", tenant.tenant_id, user_id)
    window = read_window(call.query, scope, BLOCKS_START.values())
    page = await store_blocks.list_blocks(call.services.store.readers, tenant.tenant_key, user_id, window)
    return ok(answers.BlockPage(blocks=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))
