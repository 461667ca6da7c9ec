"""Where the page's links lead: sections, claims, and the cells whose runs a script shows."""

from __future__ import annotations

from urllib.parse import quote


def section_anchor(name: str, taken: set[str]) -> str:
    """The name of a section or a claim in links, unlike all others; it is added to ``taken``."""
    safe = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "-" for letter in name
    )
    base, found, count = safe or "sweep", safe or "sweep", 2
    while found in taken:
        found, count = f"{base}-{count}", count + 1
    taken.add(found)
    return found


def cell_link(anchor: str, *where: str) -> str:
    """``#table3a/ifc/5/AP``: the runs of a row and a column, opened at a metric."""
    return "#" + "/".join([anchor, *(quote(part, safe="") for part in where)])
