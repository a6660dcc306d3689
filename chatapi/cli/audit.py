"""`chatapi audit`: the acts of operators and moderators, as a running server has them."""

import argparse

from chatapi.cli.admin import PAGE, add_options, ask
from chatapi.cli.output import print_json, show
from chatapi.client import AdminAPI
from chatapi.client.operator_records import AuditActor, AuditEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows the acts of operators and moderators that a running server has recorded, the oldest first, a line for"
        " each: time, id, actor, address, action, tenant, target, details."
    )
    add_options(parser, with_json=False)
    parser.add_argument("--tenant", metavar="TENANT", help="only acts on this tenant, which may be deleted")
    parser.add_argument("--after", metavar="ID", help="only those after this entry")
    parser.add_argument("--json", action="store_true", help="print each entry as a line of JSON, for scripts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    async def print_pages(api: AdminAPI) -> None:
        after, has_more = args.after, True
        while has_more:
            page = await api.list_audit(tenant_id=args.tenant, after=after, limit=PAGE)
            for entry in page["entries"]:
                print_json(entry) if args.json else print(_describe(entry))
            has_more = page["has_more"]
            after = page["entries"][-1]["id"] if page["entries"] else after

    ask(args, print_pages)
    return 0


def _describe(entry: AuditEntry) -> str:
    rest = (entry["address"], entry["action"], entry["tenant_id"], entry["target"], entry.get("details"))
    return "  ".join([entry["at"], entry["id"], _name(entry["actor"]), *map(show, rest)])


def _name(actor: AuditActor) -> str:
    match actor:
        case {"kind": "key", "key_id": key_id, "user_id": user_id}:
            return f"{key_id} for {user_id}"
        case {"user_id": user_id}:
            return f"user {user_id}"
    return actor["kind"]
