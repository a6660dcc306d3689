"""Every statement of the store that the server runs, found in its modules."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import chatapi.store

# Modules whose statements look at everything, on purpose: commands run by hand, on a copy or without a server.
STANDALONE = {
    "backup",
    "check",
    "importer",
    "standalone",
    "go",
    "prefill",
    "blank",
    "epochs",
    "tenant_export",
    "tenant_lines",
    "user_check",
}


def find_statements() -> Iterator[tuple[str, str]]:
    for info in pkgutil.walk_packages(chatapi.store.__path__, "chatapi.store."):
        name = info.name.removeprefix("chatapi.store.")
        if name.split(".")[0] in STANDALONE:
            continue
        for constant, value in vars(importlib.import_module(info.name)).items():
            for sql in value if isinstance(value, tuple) else (value,):
                if isinstance(sql, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql):
                    yield f"{name}.{constant}", sql


FOUND = sorted(set(find_statements()))
# Some are parts of others, which name their tables.
STATEMENTS = [(name, sql) for name, sql in FOUND if not any(sql in other and sql != other for _, other in FOUND)]
