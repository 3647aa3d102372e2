"""Fails when a crate of the dependency tree (cargo metadata on standard input) can only be had under a GPL, or under
no stated licence. An alternative is fine: "MIT OR LGPL-2.1" is MIT for us."""

import json
import re
import sys

COPYLEFT = re.compile(r"\b[AL]?GPL\b|\b[AL]?GPL-")


def acceptable(expression):
    """True when some alternative of the SPDX expression has no GPL in it. "/" is Cargo's old way to write OR."""
    # Parentheses only ever group alternatives within a conjunction: each must leave something acceptable.
    while group := re.search(r"\(([^()]*)\)", expression):
        inner = "MIT" if acceptable(group.group(1)) else "GPL-3.0"
        expression = expression[: group.start()] + inner + expression[group.end() :]
    return any(not COPYLEFT.search(choice) for choice in re.split(r"\s+OR\s+|/", expression))


refused = []
for package in json.load(sys.stdin)["packages"]:
    licence = package["license"]
    if licence is None or not acceptable(licence):
        refused.append(f"{package['name']} {package['version']}: {licence or 'no licence stated'}")
if refused:
    sys.exit("licences that cannot be:\n" + "\n".join(refused))
