"""What pages that open from a file share: a policy that lets nothing foreign run, and blocks of data."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from markupsafe import Markup


def own_text(name: str, package: str = "harness.report.html") -> str:
    """A text file that lies beside the modules of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str, images: str) -> str:
    """A Content-Security-Policy: this style, this script and images from there, and nothing else."""
    allowed = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{allowed[0]}'; script-src 'sha256-{allowed[1]}'; "
        f"img-src {images}; base-uri 'none'; form-action 'none'"
    )


def embedded_json(data: dict[str, Any]) -> Markup:
    """JSON that no HTML reader takes for markup, and no script reader for the end of a line."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
