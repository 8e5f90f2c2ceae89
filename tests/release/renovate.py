#!/usr/bin/env python3
"""Checks that renovate.json finds each version that a script of the tests or of the image pins.

Prints what it finds, or fails with what it misses.
"""

import json
import re
import sys
from pathlib import Path

TREE = Path(__file__).parents[2]
# However a version is written there.
PINS = re.compile(r"(?:@|==|\bversion=)v?\d+\.\d+\.\d+")


def python(pattern):
    """A pattern of JavaScript as one of Python."""
    return re.compile(pattern.replace("(?<", "(?P<"))


managers = json.loads((TREE / "renovate.json").read_text())["customManagers"]
found, missed = [], []
for script in sorted([*TREE.glob("tests/kit/*/provision.sh"), *TREE.glob("image/*.sh")]):
    name, text = str(script.relative_to(TREE)), script.read_text()
    matches = []
    for manager in managers:
        if any(python(pattern.strip("/")).search(name) for pattern in manager["managerFilePatterns"]):
            for match in (match for pattern in manager["matchStrings"] for match in python(pattern).finditer(text)):
                package = match.groupdict().get("depName") or manager["depNameTemplate"]
                package = manager.get("packageNameTemplate", "{{{depName}}}").replace("{{{depName}}}", package)
                matches.append((match.end("currentValue"), package))
                found.append(f"{manager['datasourceTemplate']} {package} {match['currentValue']}")
    ends = [end for end, _ in matches]
    missed += [f"{name}: {pin.group()}" for pin in PINS.finditer(text) if ends.count(pin.end()) != 1]
print("\n".join(found))
if missed or len(found) < 10:
    sys.exit(f"renovate.json does not find exactly once: {missed}")
