#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the program and the library are made of, as a CycloneDX list (JSON), on standard output.

usage: sbom.py CONTROL VERSION

The libraries are those of Build-Depends in CONTROL, and the C library; versions are those of the
Debian source packages that are installed here, so run it where the build runs. The same packages give
the same bytes."""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def build_depends(control):
    """Names of the development packages, without alternatives and versions."""
    field = re.search(r"^Build-Depends:((?:.*\n(?:[ \t].*\n)*))", control, re.MULTILINE)[1]
    names = [re.match(r"[a-z0-9.+-]*", part.strip())[0] for part in field.split(",")]
    return sorted(name for name in names if name.endswith("-dev")) + ["libc6-dev"]


def library(package):
    source, version = subprocess.run(
        ["dpkg-query", "-W", "-f", "${source:Package} ${source:Version}\n", package], check=True,
        text=True, stdout=subprocess.PIPE).stdout.splitlines()[0].split()
    purl = f"pkg:deb/debian/{source}@{urllib.parse.quote(version, safe=':~')}?arch=source"
    return {"type": "library", "bom-ref": purl, "name": source, "version": version, "purl": purl}


def data():
    """The only list that is copied in."""
    content = (ROOT / "src" / "auth" / "common.txt").read_bytes()
    version = re.search(rb"zxcvbn for Python\s+(?:#\s*)?([0-9.]*[0-9])", content)[1].decode()
    purl = f"pkg:pypi/zxcvbn@{version}"
    return {"type": "data", "bom-ref": purl, "name": "zxcvbn", "version": version, "purl": purl,
            "description": "src/auth/common.txt: the passwords that are tried first",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
            "licenses": [{"license": {"id": "MIT"}}]}


def main():
    control, version = sys.argv[1:]
    names = build_depends(pathlib.Path(control).read_text(encoding="utf-8"))
    parts = {part["purl"]: part for part in map(library, names)}
    components = sorted(parts.values(), key=lambda part: part["name"]) + [data()]
    ours = f"pkg:generic/cloakroom@{version}"
    bom = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": ours, "name": "cloakroom",
                                   "version": version, "purl": ours,
                                   "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": components,
        "dependencies": [{"ref": ours, "dependsOn": [part["bom-ref"] for part in components]}],
    }
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)).urn
    json.dump(bom, sys.stdout, indent=2, sort_keys=True)
    print()


main()
