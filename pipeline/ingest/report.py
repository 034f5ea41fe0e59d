"""What became of every file and every record, from the ledger."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.store.ledger import Ledger
from pipeline.store.location import Store


def report(store: Store) -> dict[str, Any]:
    """Counts by product and status, sums of records by reason, and each file that is not used with its reason.

    Only the last word on a file counts: where a file was read again under other rules, each reading has its own line.
    """
    entries = [e for e in Ledger(store, "ingest").entries() if not e["unit"].startswith("slots/")]
    products: dict[str, Any] = {}
    lines = []
    for entry in entries:
        name, result = entry["unit"].split("/", 1)[0], entry["result"]
        one = products.setdefault(name, {"files": Counter(), "records": Counter(), "left_out": []})
        one["files"][entry["status"]] += 1
        one["records"].update(result["counts"])
        if entry["status"] != "used":
            one["left_out"].append(
                {"file": result["address"], "status": entry["status"], "reason": result["reason"], **result["counts"]}
            )
    for name, one in sorted(products.items()):
        files = ", ".join(f"{n} {status}" for status, n in sorted(one["files"].items()))
        lines.append(f"{name}: {files}")
        lines += [f"    {reason:32s}{n:>14,d}" for reason, n in one["records"].items()]
        lines += [f"  {item['status']}: {item['file']}: {item['reason']}" for item in one["left_out"]]
    return {"products": products, "lines": lines or ["the ledger of ingest is empty"]}
