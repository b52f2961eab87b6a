"""The command ``backends``."""

from __future__ import annotations

import json

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Json, out, plain_table


def backends(as_json: Json = False) -> None:
    """List the backends with version and device, or the reason why one is unavailable and how to get it."""
    threads.limit(None)
    found = {name: registry.availability(name) for name in registry.list_backends()}
    if as_json:
        print(json.dumps({name: vars(availability) for name, availability in found.items()}))
        return
    table = plain_table()
    for heading in ("backend", "available", "version", "device"):
        table.add_column(heading, no_wrap=heading != "device")
    for name, availability in found.items():
        where = availability.device or "; ".join(filter(None, (availability.reason, availability.fix)))
        table.add_row(name, "yes" if availability.usable else "no", availability.version or "", where)
    out.print(table)
