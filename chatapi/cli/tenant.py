"""`chatapi tenant`: the tenants of a running server."""

import argparse
import asyncio
import getpass
import os
import sys
import tomllib
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET

from chatapi.cli.admin import Json, ask, list_all, make_options
from chatapi.cli.errors import CliError
from chatapi.cli.haproxy import find_route
from chatapi.cli.output import print_fields, print_json, print_table
from chatapi.cli.transfer import add_export, add_import, run_export, run_import
from chatapi.client import AdminAPI, ApiError

PROGRESS_SECONDS = 1.0  # between two looks at a move


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Manages the tenants of a running server."
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    options = make_options()

    create = actions.add_parser("create", parents=[options], help="create a tenant and show its secrets, this once")
    create.add_argument("name", metavar="NAME")
    create.set_defaults(run=run_create)

    listing = actions.add_parser("list", parents=[options], help="list all tenants")
    listing.set_defaults(run=run_list)

    show = actions.add_parser("show", parents=[options], help="show one tenant")
    show.add_argument("tenant_id", metavar="ID")
    show.set_defaults(run=run_show)

    change = actions.add_parser(
        "set",
        parents=[options],
        help="change a tenant's settings",
        description="Changes a tenant's settings. A value is TOML, and a bare word is a string. KEY= without a value"
        " removes the tenant's own setting, so that the server's holds. The key `name` is the tenant's name.",
    )
    change.add_argument("tenant_id", metavar="ID")
    change.add_argument("settings", metavar="KEY=VALUE", nargs="+")
    change.set_defaults(run=run_set)

    add_export(actions).set_defaults(run=run_export)
    add_import(actions).set_defaults(run=run_import)

    _add_move(actions, options)

    delete = actions.add_parser(
        "delete", parents=[options], help="delete a tenant: its keys stop working at once, its data goes later"
    )
    delete.add_argument("tenant_id", metavar="ID")
    delete.add_argument("--yes", action="store_true", help="delete without asking")
    delete.set_defaults(run=run_delete)

    route = actions.add_parser(
        "route",
        help="tell HAProxy on this machine which server a tenant is on",
        description="Tells a running HAProxy which server a tenant is on, and writes it into the map that HAProxy reads"
        " at a start. It moves nothing: the tenant has to be there.",
    )
    route.add_argument("tenant_id", metavar="ID")
    route.add_argument("server", metavar="SERVER", help="the name of a backend in HAProxy's configuration")
    route.add_argument("--haproxy", metavar="SOCKET", required=True, help="HAProxy's stats socket, of level operator")
    route.set_defaults(run=run_route)


def _add_move(actions: Any, options: argparse.ArgumentParser) -> None:
    move = actions.add_parser(
        "move",
        parents=[options],
        help="move a tenant to another server while it works",
        description="Moves a tenant to another running server of the same version. It works on while it is copied, and"
        " its writes are refused for a moment at the end. The same command goes on where it broke off. The other"
        " server's master key is read from CHATAPI_TO_MASTER_KEY, or asked for.",
    )
    move.add_argument("tenant_id", metavar="TENANT")
    move.add_argument("--to", metavar="URL", required=True, help="address of the other server, as clients reach it")
    move.add_argument(
        "--haproxy", metavar="SOCKET", help="then send it there: HAProxy's stats socket, of level operator"
    )
    move.add_argument("--backend", metavar="SERVER", help="the other server's name in HAProxy's configuration")
    move.set_defaults(run=run_move)


def run_create(args: argparse.Namespace) -> int:
    return _print_tenant(args, lambda api: api.create_tenant(args.name))


def run_show(args: argparse.Namespace) -> int:
    return _print_tenant(args, lambda api: api.get_tenant(args.tenant_id))


def run_set(args: argparse.Namespace) -> int:
    config = parse_settings(args.settings)
    name = config.pop("name", UNSET)
    return _print_tenant(args, lambda api: api.update_tenant(args.tenant_id, name=name, config=config))


def run_list(args: argparse.Namespace) -> int:
    data = ask(
        args, lambda api: list_all(lambda limit, offset: api.list_tenants(limit=limit, offset=offset), "tenants")
    )
    if args.json:
        print_json(data)
    else:
        columns = ("tenant_id", "name", "created_at", "config")
        print_table(columns, [[tenant.get(column) for column in columns] for tenant in data["tenants"]])
    return 0


def run_move(args: argparse.Namespace) -> int:
    if (args.haproxy is None) != (args.backend is None):
        raise CliError("--haproxy and --backend go together")
    # Looked for before anything moves.
    route = None if args.haproxy is None else find_route(args.haproxy, args.backend)
    to_master_key = os.environ.get("CHATAPI_TO_MASTER_KEY") or _ask_for_key()

    async def move(api: AdminAPI) -> Any:
        telling = asyncio.ensure_future(_tell_progress(api, args.tenant_id))
        try:
            return await api.move_tenant(args.tenant_id, args.to, to_master_key)
        finally:
            telling.cancel()

    data = ask(args, move)
    if route is not None:
        route.send(args.tenant_id)
    if args.json:
        print_json(data)
    else:
        print(f"{args.tenant_id} is at {data['url']} ({data['rows']} rows, writes held for {data['held_ms']} ms)")
    return 0


def _ask_for_key() -> str:
    """Raises CliError without a terminal."""
    if not sys.stdin.isatty():
        raise CliError("no master key of the other server: set CHATAPI_TO_MASTER_KEY")
    return getpass.getpass("Master key of the other server: ")


async def _tell_progress(api: AdminAPI, tenant_id: str) -> None:
    told = ""
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        try:
            state = (await api.get_tenant(tenant_id)).get("move")
        except ApiError:
            continue
        line = "" if state is None else f"{state['state']}: {state['rows']} rows sent"
        if line and line != told:
            print(line, file=sys.stderr, flush=True)
            told = line


def run_delete(args: argparse.Namespace) -> int:
    if not args.yes:
        _confirm_deletion(args)
    data = ask(args, lambda api: api.delete_tenant(args.tenant_id))
    if args.json:
        print_json(data)
    else:
        print(f"{args.tenant_id} is deleted")
    return 0


def run_route(args: argparse.Namespace) -> int:
    route = find_route(args.haproxy, args.server)
    route.send(args.tenant_id)
    print(f"{args.tenant_id} goes to {args.server}, and {route.map_file} says so")
    return 0


def _confirm_deletion(args: argparse.Namespace) -> None:
    """Raises CliError unless the operator types yes."""
    name = ask(args, lambda api: api.get_tenant(args.tenant_id))["name"]
    question = f"Delete the tenant {name} ({args.tenant_id}) with all its rooms and messages, for good? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline()
    if not typed:
        print(file=sys.stderr)
        raise CliError("nothing was deleted: give --yes when there is no terminal to ask at")
    if typed.strip().lower() not in ("y", "yes"):
        raise CliError("nothing was deleted")


def _print_tenant(args: argparse.Namespace, question: Callable[[AdminAPI], Awaitable[Any]]) -> int:
    data = ask(args, question)
    if args.json:
        print_json(data)
        return 0
    print_fields(data)
    secrets = [name for name in ("api_key", "token_secret", "webhook_secret") if data.get(name)]
    if secrets:
        print(f"\nKeep {' and '.join(secrets)} now: shown only this once.")
    return 0


def parse_settings(settings: list[str]) -> Json:
    """Raises CliError."""
    parsed: Json = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key.strip():
            raise CliError(f"{setting}: expected KEY=VALUE")
        parsed[key.strip()] = _parse_value(key.strip(), text.strip())
    return parsed


def _parse_value(key: str, text: str) -> object:
    if not text:
        return None
    if key == "name" and text[0] not in "\"'":
        return text  # a name may look like a number
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text
