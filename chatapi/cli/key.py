"""`chatapi key`: the API keys of a tenant."""

import argparse

from chatapi.cli.admin import ask, list_all, make_options
from chatapi.cli.output import print_fields, print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Manages the API keys of a tenant. To replace a key without downtime, create another one, deploy it, and revoke"
        " the old one."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    options = make_options()

    create = actions.add_parser("create", parents=[options], help="create a key and show it, this once")
    create.add_argument("tenant_id", metavar="TENANT")
    create.set_defaults(run=run_create)

    listing = actions.add_parser("list", parents=[options], help="list the tenant's keys, without the secrets")
    listing.add_argument("tenant_id", metavar="TENANT")
    listing.set_defaults(run=run_list)

    revoke = actions.add_parser("revoke", parents=[options], help="revoke a key: it stops working at once")
    revoke.add_argument("tenant_id", metavar="TENANT")
    revoke.add_argument("key_id", metavar="KEY_ID")
    revoke.set_defaults(run=run_revoke)


def run_create(args: argparse.Namespace) -> int:
    data = ask(args, lambda api: api.create_key(args.tenant_id))
    if args.json:
        print_json(data)
    else:
        print_fields(data)
        print("\nKeep api_key now: shown only this once.")
    return 0


def run_list(args: argparse.Namespace) -> int:
    data = ask(
        args,
        lambda api: list_all(lambda limit, offset: api.list_keys(args.tenant_id, limit=limit, offset=offset), "keys"),
    )
    if args.json:
        print_json(data)
    else:
        columns = ("key_id", "created_at", "last_used_at")
        print_table(columns, [[key.get(column) for column in columns] for key in data["keys"]])
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    data = ask(args, lambda api: api.revoke_key(args.tenant_id, args.key_id))
    if args.json:
        print_json(data)
    else:
        print(f"{args.key_id} is revoked")
    return 0
