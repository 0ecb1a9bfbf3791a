"""The packages of an image with their licences, as a table: python -m tests.licences sbom.cdx.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NEITHER = "not said in its metadata"


def table(sbom: dict[str, Any]) -> list[str]:
    """The rows of the table for a CycloneDX document, by name."""
    rows = sorted((one["name"].lower(), one["version"], licence(one)) for one in sbom["components"])
    return [f"| {name} | {version} | {told} |" for name, version, told in rows]


def licence(component: dict[str, Any]) -> str:
    """What a component's metadata says of its licence: an SPDX expression where it gives one."""
    told = []
    for choice in component.get("licenses", []):
        one = choice.get("license", {})
        told.append(choice.get("expression") or one.get("id") or one.get("name", ""))
    short = dict.fromkeys(text.removeprefix("License :: OSI Approved :: ") for text in told if text and len(text) < 80)
    return ", ".join(short) or NEITHER


if __name__ == "__main__":
    print("\n".join(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
