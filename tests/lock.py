"""Prints the versions of all packages that this environment's tests ran with, as pip's constraints.

`make lock` writes them to constraints.txt; `pip install -c constraints.txt ...` repeats them.
"""

from __future__ import annotations

import platform
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAD = f"# Tested together with Python {platform.python_version()}; `make lock` writes this file."


def closure(name: str, extras: frozenset[str], found: dict[str, str]) -> None:
    """Add the packages that `name` with these extras needs here, with their versions, to `found`."""
    for text in metadata.requires(name) or ():
        wanted = Requirement(text)
        marker = wanted.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        key = f"{canonicalize_name(wanted.name)}[{','.join(sorted(wanted.extras))}]"
        if key not in found:
            found[key] = metadata.version(wanted.name)
            closure(wanted.name, frozenset(wanted.extras), found)


def main() -> None:
    found: dict[str, str] = {}
    closure("skin-gan", frozenset({"dev"}), found)
    versions = {key.partition("[")[0]: version for key, version in found.items()}
    versions.pop("skin-gan", None)
    print(HEAD, *(f"{name}=={version}" for name, version in sorted(versions.items())), sep="\n")


if __name__ == "__main__":
    main()
