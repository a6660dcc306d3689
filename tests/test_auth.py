"""Who is calling: API keys, user tokens, tickets, and the order in which they are looked at."""

import base64
import json
import math
import re
from typing import Any
from urllib.parse import unquote

import jwt
import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, Socket, User
from examples import example

from chatapi.auth import TICKET_SECONDS, WRONG_KEYS_PER_MINUTE
from chatapi.clock import Clock
from chatapi.models import SERVER_ACTOR, TenantId
from chatapi.store.tenants import insert_key, load_keys
from chatapi.tenant_secrets import hash_key, make_key_id

DAY = 86_400
SCANNERS = example("docs/operations.md", "text", "sk_").strip()
OTHER_SECRET = "another-secret-of-the-right-length-0123456789"


def refusal(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.error["code"]


UNAUTHENTICATED = (401, "AUTHENTICATION_ERROR")


def now_s() -> int:
    return Clock().now_us() // 1_000_000


async def refused_in_frame(socket: Socket) -> str:
    """The code of the error frame, after which comes close 4001."""
    frame = await socket.next()
    assert frame["type"] == "error"
    assert await socket.close_code() == 4001
    return str(frame["code"])


async def refused_in_handshake(server: Server, **options: Any) -> tuple[int, str]:
    return refusal(await server.refused_handshake(**options))


# API keys


@pytest.mark.parametrize("headers", [{}, {"X-User-Id": "alice"}, {"X-Api-Secret": "x"}, {"X-Master-Key": "x"}])
async def test_no_credential_is_401(shared_server: Server, headers: dict[str, str]) -> None:
    assert refusal(await shared_server.request("GET", "/rooms", headers=headers)) == UNAUTHENTICATED


@pytest.mark.parametrize("key", ["", "sk_", "sk_" + "x" * 43, "x" * 4000, "ü"])
async def test_a_wrong_key_is_401(shared_server: Server, key: str) -> None:
    headers = {"X-API-Key": key, "X-User-Id": "alice"}
    assert refusal(await shared_server.request("GET", "/rooms", headers=headers)) == UNAUTHENTICATED


async def test_each_key_and_ticket_names_its_own_tenant(server: Server) -> None:
    tenants = server.services.tenants
    for tenant_id in ("tenant_dev", "tenant_9f2c", "a_b", "_", "Ünïted 100%/ä_b_", "%5F"):
        _tenant, first = await tenants._create(SERVER_ACTOR, TenantId(tenant_id), "named", {}, shown=False)
        _key_id, second = await tenants.create_key(SERVER_ACTOR, tenant_id)
        ticket = (await server.user("alice", first).post("/ws/token")).data["token"]
        for text, prefix, digits in ((first, "sk_", 64), (second, "sk_", 64), (ticket, "tkt_", 48)):
            named, secret = text.removeprefix(prefix).rsplit("_", 1)
            assert (unquote(named), len(secret)) == (tenant_id, digits)
            assert not set(secret) - set("0123456789abcdef")
            assert re.fullmatch(r"[A-Za-z0-9._~%-]+", named), "a proxy's map holds it, and so does a header"
        assert [re.findall(SCANNERS, f"key={key}&x=")[0] for key in (first, second)] == [
            key.removeprefix("sk_") for key in (first, second)
        ]
        renamed = first.replace(first.removeprefix("sk_").rsplit("_", 1)[0], "tenant_other")
        assert refusal(await server.user("alice", renamed).get("/rooms")) == UNAUTHENTICATED


async def test_keys_that_name_no_tenant_stay_valid(server: Server) -> None:
    tenant = server.services.tenants.get((await server.make_tenant())["tenant_id"])
    for old in ("sk_" + "aB-_9" * 8 + "xyz", "sk_one_0123456789", "anything-imported"):
        await server.services.store.writer.change(
            lambda transaction, old=old: insert_key(transaction, tenant.tenant_key, make_key_id(), hash_key(old), None)
        )
    for key_hash, key_id, tenant_key in await load_keys(server.services.store.readers):
        if tenant_key == tenant.tenant_key:
            server.services.tenants._add_key(key_hash, tenant, key_id)
    assert re.findall(SCANNERS, "sk_" + "aB-_9" * 8 + "xyz")
    for old in ("sk_" + "aB-_9" * 8 + "xyz", "sk_one_0123456789", "anything-imported"):
        assert (await server.user("alice", old).get("/rooms")).status == 200


async def test_parts_of_a_key_are_no_key(shared_server: Server) -> None:
    for key in (
        shared_server.api_key[:-1],
        shared_server.api_key + "x",
        shared_server.api_key.upper(),
        shared_server.api_key.removeprefix("sk_"),
    ):
        assert refusal(await shared_server.user("alice", key).get("/rooms")) == UNAUTHENTICATED
    assert (await shared_server.user("alice").get("/rooms")).status == 200


async def test_a_key_needs_a_user(shared_server: Server) -> None:
    reply = await shared_server.request("GET", "/rooms", headers={"X-API-Key": shared_server.api_key})
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", "X-User-Id")
    for user_id in ("", "a b", "zoë", "u" * 129, "\x7f"):
        request = (
            f"GET /rooms HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {shared_server.api_key}\r\nX-User-Id: "
        )
        answer = await shared_server.exchange(request.encode() + user_id.encode() + b"\r\n\r\n")
        assert answer.split()[1] == b"400", user_id
        if user_id != "\x7f":  # that one is no HTTP at all
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["field"] == "X-User-Id"


@pytest.mark.parametrize("user_id", ["u" * 128, "a:b|c@d/e", "!~", "{}", "%00"])
async def test_any_printable_user_id_works(shared_server: Server, user_id: str) -> None:
    user = shared_server.user(user_id)
    room_id = await user.make_room()
    assert (await user.say(room_id))["sender_id"] == user_id
    token = (await user.post("/tokens")).data
    assert token["user_id"] == user_id
    assert (await shared_server.bearer(user_id, token["token"]).get(f"/rooms/{room_id}")).status == 200
    socket = await user.connect(ready=False)
    assert (await socket.next())["user_id"] == user_id


async def test_bytes_that_are_no_text_are_no_credential(shared_server: Server) -> None:
    for header in (b"X-API-Key: \xff\xfe", b"Authorization: Bearer \xff\xfe", b"Authorization: Bearer a.b\xff.c"):
        request = b"GET /rooms HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-User-Id: alice\r\n" + header + b"\r\n\r\n"
        answer = await shared_server.exchange(request)
        assert answer.startswith(b"HTTP/1.1 401"), answer


# User tokens


async def mint(server: Server, **body: object) -> str:
    return str((await server.user("alice").post("/tokens", body)).data["token"])


async def test_a_token_is_for_one_user(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    reply = await server.user("backend").post("/tokens", {"user_id": "alice", "expires_in": 60})
    assert (reply.status, reply.data["user_id"]) == (201, "alice")
    claims = jwt.decode(reply.data["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["exp"]) == ("alice", clock.now_us() // 1_000_000 + 60)
    alice = server.bearer("alice", reply.data["token"])
    room_id = await alice.make_room()
    assert (await alice.say(room_id))["sender_id"] == "alice"
    socket = await alice.connect(ready=False)
    assert (await socket.next())["user_id"] == "alice"


async def test_x_user_id_beside_a_token_is_ignored(shared_server: Server) -> None:
    alice = shared_server.bearer("alice", await mint(shared_server))
    alice.headers["X-User-Id"] = "bob and spaces"
    assert (await alice.say(await alice.make_room()))["sender_id"] == "alice"


async def test_a_token_mints_no_tokens(shared_server: Server) -> None:
    alice = shared_server.bearer("alice", await mint(shared_server))
    for body in ({}, {"user_id": "alice"}, {"user_id": "bob"}):
        assert refusal(await alice.post("/tokens", body)) == (403, "AUTHORIZATION_ERROR")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 86401}, "expires_in"),
        ({"expires_in": 1.5}, "expires_in"),
        ({"expires_in": "60"}, "expires_in"),
        ({"user_id": "a b"}, "user_id"),
        ({"user_id": ""}, "user_id"),
    ],
)
async def test_a_bad_wish_for_a_token_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    reply = await shared_server.user("alice").post("/tokens", body)
    assert (reply.status, reply.error["field"]) == (400, field)


async def test_expires_in_is_an_hour_by_default_and_a_day_at_most(shared_server: Server) -> None:
    for body, seconds in (({}, 3600), ({"expires_in": 1}, 1), ({"expires_in": DAY}, DAY)):
        claims = jwt.decode(await mint(shared_server, **body), options={"verify_signature": False})
        assert abs(claims["exp"] - now_s() - seconds) <= 20


async def test_a_backend_may_sign_tokens_itself(shared_server: Server) -> None:
    tenant = await shared_server.make_tenant("own")
    claims = {"iss": tenant["tenant_id"], "sub": "alice", "exp": now_s() + DAY}
    token = jwt.encode(claims, tenant["token_secret"], algorithm="HS256")
    assert (await shared_server.bearer("alice", token).get("/rooms")).status == 200
    # A clock that is a little ahead of ours, and claims that we do not know.
    claims |= {
        "exp": now_s() + DAY + 3,
        "iat": now_s() + 3,
        "nbf": now_s() + 3,
        "jti": "x",
        "aud": ["chat"],
        "role": "admin",
    }
    token = jwt.encode(claims, tenant["token_secret"], algorithm="HS256")
    assert (await shared_server.bearer("alice", token).get("/rooms")).status == 200


def unsigned(header: dict[str, object], claims: dict[str, object], signature: str = "") -> str:
    parts = (json.dumps(header), json.dumps(claims))
    return ".".join([*(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts), signature])


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # of the other algorithms
async def test_malformed_and_forged_tokens_are_refused(server: Server) -> None:
    tenant, other = await server.make_tenant("own"), await server.make_tenant("other")
    secret = tenant["token_secret"]
    good = {"iss": tenant["tenant_id"], "sub": "alice", "exp": now_s() + 60}

    def sign(changes: dict[str, object], key: str = secret, algorithm: str = "HS256") -> str:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return jwt.encode(claims, key, algorithm=algorithm)

    assert (await server.bearer("alice", sign({})).get("/rooms")).status == 200
    signature = sign({}).rsplit(".", 1)[1]
    bad = {
        "no algorithm": unsigned({"alg": "none", "typ": "JWT"}, good),
        "no algorithm, in capitals": unsigned({"alg": "NONE"}, good),
        "no algorithm, signed": unsigned({"alg": "none"}, good, signature),
        "no header": unsigned({}, good, signature),
        "HS384": sign({}, algorithm="HS384"),
        "HS512": sign({}, algorithm="HS512"),
        "another tenant's secret": sign({}, other["token_secret"]),
        "a made-up secret": sign({}, OTHER_SECRET),
        "another tenant's name": sign({"iss": other["tenant_id"]}),
        "an unknown tenant": sign({"iss": "tenant_x"}),
        "a list as tenant": unsigned({"alg": "HS256"}, {**good, "iss": [tenant["tenant_id"]]}, signature),
        "no tenant": sign({"iss": None}),
        "no user": sign({"sub": None}),
        "an empty user": sign({"sub": ""}),
        "a bad user": sign({"sub": "a b"}),
        "no end": sign({"exp": None}),
        "past its end": sign({"exp": now_s() - 10}),
        "an end of zero": sign({"exp": 0}),
        "too far ahead": sign({"exp": now_s() + DAY + 60}),
        "forever": sign({"exp": 2**62}),
        "an infinite end": sign({"exp": float("inf")}),
        "an end that is no number": sign({"exp": float("nan")}),
        "an end that is a word": unsigned({"alg": "HS256"}, {**good, "exp": "never"}, signature),
        "other claims under the signature": unsigned({"alg": "HS256"}, {**good, "sub": "bob"}, signature),
        "a list of claims": unsigned({"alg": "HS256"}, [1], signature),  # type: ignore[arg-type]
        "brackets without end": f"e30.{base64.urlsafe_b64encode(b'[' * 5000).decode()}.x",
        "not a token": "abc",
        "dots": "..",
        "nothing": "",
    }
    answers = {}
    for name, token in bad.items():
        server.services.auth._wrong_keys.clear()  # the limit on guessing has a test of its own
        answers[name] = refusal(await server.bearer("alice", token).get("/rooms"))
    assert answers == dict.fromkeys(bad, UNAUTHENTICATED)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_claims_nobody_asked_for_are_not_judged(shared_server: Server) -> None:
    tenant = await shared_server.make_tenant("own")
    good = {"iss": tenant["tenant_id"], "sub": "alice", "exp": now_s() + 60.5}
    strange: list[object] = [7, 1.5, True, None, "", "x" * 1000, [], [7], {}, {"a": [1]}, -1, 10**300]
    names = ("jti", "iat", "aud", "typ", "cty", "azp", "scope", "auth_time", "nonce", "Sub", "EXP", "role")
    for name in names:
        for value in strange:
            token = _encode_any({**good, name: value}, tenant["token_secret"])
            reply = await shared_server.bearer("alice", token).get("/rooms?limit=1")
            assert reply.status == 200, (name, value, reply.body)


async def test_a_validly_signed_token_is_told_its_fault_and_is_no_guess(server: Server) -> None:
    tenant = await server.make_tenant("own")
    good = {"iss": tenant["tenant_id"], "sub": "alice", "exp": now_s() + 60}
    huge = 10**400
    faults: list[tuple[dict[str, object], str]] = [
        ({"exp": now_s() - 1}, "has expired"),
        ({"exp": 0}, "has expired"),
        ({"exp": -huge}, "has expired"),
        ({"exp": -math.inf}, "has expired"),
        ({"exp": now_s() + DAY + 60}, "more than 24 hours"),
        ({"exp": huge}, "more than 24 hours"),
        ({"exp": math.inf}, "more than 24 hours"),
        ({"exp": math.nan}, "exp must be a number"),
        ({"exp": str(now_s() + 60)}, "exp must be a number"),
        ({"exp": True}, "exp must be a number"),
        ({"exp": [now_s()]}, "exp must be a number"),
        ({"exp": None}, "has no exp"),
        ({"nbf": now_s() + 60}, "nbf is in the future"),
        ({"nbf": huge}, "nbf is in the future"),
        ({"nbf": "soon"}, "nbf must be a number"),
        ({"nbf": math.nan}, "nbf must be a number"),
        ({"nbf": False}, "nbf must be a number"),
        ({"sub": None}, "sub must be a user id"),
        ({"sub": 7}, "sub must be a user id"),
        ({"sub": ["alice"]}, "sub must be a user id"),
        ({"sub": "a b"}, "sub must be a user id"),
        ({"sub": "alice\n"}, "sub must be a user id"),
        ({"sub": "x" * 129}, "sub must be a user id"),
    ]
    assert len(faults) > WRONG_KEYS_PER_MINUTE
    for changes, message in faults:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        reply = await server.bearer("alice", _encode_any(claims, tenant["token_secret"])).get("/rooms")
        assert refusal(reply) == UNAUTHENTICATED, changes  # never 429: none of them was counted as a guess
        assert message in reply.error["message"], (changes, reply.error)
    assert server.services.auth.wrong_credentials == 0


async def test_a_token_begins_at_its_nbf_less_ten_seconds(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant("own")
    now = clock.now_us() // 1_000_000
    claims = {"iss": tenant["tenant_id"], "sub": "alice", "exp": now + 60, "nbf": now + 20}
    alice = server.bearer("alice", jwt.encode(claims, tenant["token_secret"], algorithm="HS256"))
    assert (await alice.get("/rooms")).status == 401
    clock.advance(11)
    assert (await alice.get("/rooms")).status == 200


def _encode_any(claims: dict[str, object], secret: str) -> str:
    """A signed token with claims that PyJWT itself would not encode."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), secret, algorithm="HS256")


async def test_other_schemes_are_refused(shared_server: Server) -> None:
    token = await mint(shared_server)
    for value in ("Basic YTpi", token, "bearer", f"Token {token}"):
        assert (
            refusal(await shared_server.request("GET", "/rooms", headers={"Authorization": value})) == UNAUTHENTICATED
        )
    assert (await shared_server.request("GET", "/rooms", headers={"Authorization": f"bearer  {token}"})).status == 200


async def test_a_token_that_was_good_ends_at_its_end(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    used, unused = await mint(server, expires_in=60), await mint(server, expires_in=61)
    assert (await server.bearer("alice", used).get("/rooms")).status == 200
    clock.advance(59)
    assert (await server.bearer("alice", used).get("/rooms")).status == 200
    clock.advance(2)
    assert refusal(await server.bearer("alice", used).get("/rooms")) == UNAUTHENTICATED
    assert refusal(await server.bearer("alice", unused).get("/rooms")) == UNAUTHENTICATED


async def test_an_open_socket_ends_with_its_token(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"websocket.heartbeat_seconds": 0.1, "websocket.timeout_seconds": 3600}, clock=clock)
    short = await server.bearer("alice", await mint(server, expires_in=60)).connect()
    lasting = await server.bearer("alice", await mint(server, expires_in=3600)).connect()
    keyed = await server.user("alice").connect()
    clock.advance(61)
    assert await refused_in_frame(short) == "AUTHENTICATION_ERROR"
    for socket in (lasting, keyed):
        await socket.send("ping")
        await socket.expect("pong")


# Tickets


async def ticket(server: Server) -> str:
    reply = await server.user("alice").post("/ws/token")
    assert (reply.status, reply.data["expires_in"]) == (200, TICKET_SECONDS) == (200, 60)
    return str(reply.data["token"])


async def test_a_ticket_opens_one_socket(shared_server: Server) -> None:
    token = await ticket(shared_server)
    socket = await shared_server.handshake(token=token)
    assert (await socket.expect("ready"))["user_id"] == "alice"
    assert await refused_in_frame(await shared_server.handshake(token=token)) == "AUTHENTICATION_ERROR"
    assert await refused_in_frame(await shared_server.handshake(token="tkt_made-up")) == "AUTHENTICATION_ERROR"
    assert refusal(await shared_server.bearer("alice", await ticket(shared_server)).get("/rooms")) == UNAUTHENTICATED


async def test_a_ticket_lasts_a_minute(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    early, late = await ticket(server), await ticket(server)
    clock.advance(59)
    await (await server.handshake(token=early)).expect("ready")
    clock.advance(2)
    assert await refused_in_frame(await server.handshake(token=late)) == "AUTHENTICATION_ERROR"


async def test_ticket_has_no_more_rights_than_its_credential(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant("own")
    path = f"/tenants/{tenant['tenant_id']}"
    backend = server.user("alice", tenant["api_key"])
    token = (await backend.post("/tokens", {"expires_in": 30})).data["token"]
    alice = server.bearer("alice", token)

    async def get(user: User) -> str:
        return str((await user.post("/ws/token")).data["token"])

    async def is_refused(token: str) -> bool:
        return await refused_in_frame(await server.handshake(token=token)) == "AUTHENTICATION_ERROR"

    of_old_token = await get(alice)
    clock.advance(31)
    assert await is_refused(of_old_token)
    alice = server.bearer("alice", (await backend.post("/tokens")).data["token"])
    of_old_secret = await get(alice)
    await server.admin("POST", f"{path}/token-secret")
    assert await is_refused(of_old_secret)
    [key] = (await server.admin("GET", f"{path}/keys")).data["keys"]
    other_key = (await server.admin("POST", f"{path}/keys")).data["api_key"]
    of_old_key, of_other_key = await get(backend), await get(server.user("alice", other_key))
    await server.admin("DELETE", f"{path}/keys/{key['key_id']}")
    assert await is_refused(of_old_key)
    await (await server.handshake(token=of_other_key)).expect("ready")
    of_deleted_tenant = await get(server.user("alice", other_key))
    await server.admin("DELETE", path)
    assert await is_refused(of_deleted_tenant)


# Credentials of a WebSocket


async def test_a_token_in_the_subprotocol(shared_server: Server) -> None:
    token = await mint(shared_server)
    socket = await shared_server.handshake(protocols=("chatapi.v1", f"bearer.{token}"))
    assert socket.websocket.protocol == "chatapi.v1"
    assert (await socket.expect("ready"))["user_id"] == "alice"
    socket = await shared_server.handshake(protocols=("chatapi.v1", "bearer.made-up"))
    assert socket.websocket.protocol == "chatapi.v1"
    assert await refused_in_frame(socket) == "AUTHENTICATION_ERROR"


async def test_a_token_in_the_query(shared_server: Server) -> None:
    socket = await shared_server.handshake(token=await mint(shared_server))
    assert (await socket.expect("ready"))["user_id"] == "alice"
    assert await refused_in_frame(await shared_server.handshake(token="made-up")) == "AUTHENTICATION_ERROR"
    assert await refused_in_frame(await shared_server.handshake(token="")) == "AUTHENTICATION_ERROR"


async def test_a_key_in_the_query_works_only_where_it_is_switched_on(start_server: StartServer) -> None:
    server = await start_server()
    assert await refused_in_handshake(server, params={"api_key": server.api_key, "user_id": "alice"}) == UNAUTHENTICATED
    await server.app.close()
    server = await start_server({"auth.query_api_key": True})
    socket = await server.handshake(api_key=server.api_key, user_id="alice")
    assert (await socket.expect("ready"))["user_id"] == "alice"
    assert await refused_in_frame(await server.handshake(api_key="sk_x", user_id="alice")) == "AUTHENTICATION_ERROR"
    assert await refused_in_frame(await server.handshake(api_key=server.api_key)) == "VALIDATION_ERROR"


async def test_bad_headers_are_answered_over_http(shared_server: Server) -> None:
    for headers in ({"X-API-Key": "sk_x", "X-User-Id": "alice"}, {"Authorization": "Bearer x"}, {}):
        assert await refused_in_handshake(shared_server, headers=headers) == UNAUTHENTICATED
    for user_id in ({}, {"X-User-Id": "a b"}):
        headers = {"X-API-Key": shared_server.api_key, **user_id}
        assert await refused_in_handshake(shared_server, headers=headers) == (400, "VALIDATION_ERROR")


async def test_only_the_first_kind_of_credential_is_looked_at(start_server: StartServer) -> None:
    server = await start_server({"auth.query_api_key": True})
    key = {"X-API-Key": server.api_key, "X-User-Id": "by-key"}
    tokens = {
        name: (await server.user(name).post("/tokens")).data["token"] for name in ("bearer", "subprotocol", "query")
    }
    bearer = {"Authorization": f"Bearer {tokens['bearer']}"}
    protocols = ("chatapi.v1", f"bearer.{tokens['subprotocol']}")
    query = {"token": tokens["query"], "api_key": server.api_key, "user_id": "by-query-key"}

    async def user_of(**credentials) -> str:
        socket = await server.handshake(**credentials)
        user_id = (await socket.expect("ready"))["user_id"]
        await socket.close()
        return str(user_id)

    assert await user_of(headers={**key, **bearer}, protocols=protocols, **query) == "by-key"
    assert await user_of(headers=bearer, protocols=protocols, **query) == "bearer"
    assert await user_of(protocols=protocols, **query) == "subprotocol"
    assert await user_of(**query) == "query"
    del query["token"]
    assert await user_of(**query) == "by-query-key"

    # A wrong one of an earlier kind is not made up for by a right one of a later kind.
    wrong_key, wrong_bearer = {"X-API-Key": "sk_x", "X-User-Id": "alice"}, {"Authorization": "Bearer x"}
    assert refusal(await server.request("GET", "/rooms", headers={**wrong_key, **bearer})) == UNAUTHENTICATED
    assert await refused_in_handshake(server, headers={**wrong_key, **bearer}) == UNAUTHENTICATED
    assert await refused_in_handshake(server, headers=wrong_bearer, params=query) == UNAUTHENTICATED
    assert await refused_in_frame(await server.handshake(protocols=("chatapi.v1", "bearer.x"), **query))
    assert await refused_in_frame(await server.handshake(token="x", **query))
    assert (await server.request("GET", "/rooms", headers={**key, **wrong_bearer})).status == 200


# Guessing


async def test_guessing_keys_is_slow_but_right_keys_pass(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    guesses = [
        {"X-API-Key": "sk_guess", "X-User-Id": "alice"},
        {"Authorization": "Bearer guess"},
        {"X-API-Key": "sk_other", "X-User-Id": "alice"},
    ]
    answers = [
        (await server.request("GET", "/rooms", headers=guesses[n % 3])).status for n in range(WRONG_KEYS_PER_MINUTE + 2)
    ]
    assert answers == [401] * 20 + [429] * 2
    reply = await server.request("GET", "/rooms", headers=guesses[0])
    assert reply.error["code"] == "RATE_LIMIT_EXCEEDED"
    assert int(reply.headers["Retry-After"]) >= 1
    reply = await server.request("GET", "/admin/tenants", headers={"X-Master-Key": "guess"})
    assert reply.status == 429
    assert await refused_in_frame(await server.handshake(token="guess")) == "RATE_LIMIT_EXCEEDED"
    assert (await server.user("alice").get("/rooms")).status == 200
    assert (await server.admin("GET", "/tenants")).status == 200
    clock.advance(60)
    assert (await server.request("GET", "/rooms", headers=guesses[0])).status == 401


async def test_guesses_are_counted_for_each_address(start_server: StartServer) -> None:
    server = await start_server({"server.trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}, clock=HandClock())

    async def guess(forwarded_for: str) -> int:
        headers = {"X-API-Key": "sk_guess", "X-User-Id": "alice", "X-Forwarded-For": forwarded_for}
        return (await server.request("GET", "/rooms", headers=headers)).status

    assert [await guess("203.0.113.1") for _ in range(21)] == [401] * 20 + [429]
    assert await guess("203.0.113.2, 10.1.1.1") == 401
    assert await guess("made-up, 203.0.113.1") == 429  # what a client puts in front is not believed
    assert await guess("203.0.113.1, 10.0.0.1, 10.0.0.2") == 429


async def test_nobody_escapes_the_count_by_claiming_to_be_a_proxy(start_server: StartServer) -> None:
    server = await start_server(clock=HandClock())
    answers = []
    for n in range(21):
        headers = {"X-API-Key": "sk_guess", "X-User-Id": "alice", "X-Forwarded-For": f"203.0.113.{n}"}
        answers.append((await server.request("GET", "/rooms", headers=headers)).status)
    assert answers == [401] * 20 + [429]


async def test_a_refused_socket_costs_the_tenant_nothing(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 2}, clock=HandClock())
    for _ in range(5):
        await refused_in_handshake(server, headers={"X-API-Key": "sk_x", "X-User-Id": "alice"})
    assert (await server.user("alice").get("/rooms")).headers["X-RateLimit-Remaining"] == "1"


async def test_memory_of_wrong_keys_by_address_is_bounded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.auth.MAX_ADDRESSES", 2)
    server = await start_server({"server.trusted_proxies": ["127.0.0.1"]}, clock=HandClock())
    for n in range(5):
        headers = {"X-API-Key": "sk_guess", "X-User-Id": "alice", "X-Forwarded-For": f"203.0.113.{n}"}
        assert (await server.request("GET", "/rooms", headers=headers)).status == 401
    assert len(server.services.auth._wrong_keys) == 2


async def test_memory_of_tickets_and_verified_tokens_is_bounded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.auth.MAX_TICKETS", 2)
    monkeypatch.setattr("chatapi.auth.MAX_CACHED_TOKENS", 2)
    clock = HandClock()
    server = await start_server(clock=clock)
    alice = server.user("alice")
    tickets = [(await alice.post("/ws/token")).status for _ in range(3)]
    assert tickets == [200, 200, 429]
    clock.advance(TICKET_SECONDS + 1)  # those that have ended make room
    assert (await alice.post("/ws/token")).status == 200
    tokens = [await mint(server, expires_in=60 + n) for n in range(4)]
    for token in tokens * 2:
        assert (await server.bearer("alice", token).get("/rooms")).status == 200
    assert len(server.services.auth._tokens) == 2
