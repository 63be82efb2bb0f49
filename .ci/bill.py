"""Completes a release: ``python bill.py ENVIRONMENT DIST``, where ENVIRONMENT has the wheel of DIST and all it needs.

Writes the software bill of materials (CycloneDX, JSON) and the checksums of all files. ``cyclonedx-py`` knows what is
installed; the version and the digests of what was built it cannot know.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(environment: Path, dist: Path) -> None:
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = source.name.removesuffix(".tar.gz").rsplit("-", 1)
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    options = ["--mc-type", "library", "--output-reproducible", "--validate", str(environment)]
    made = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    bill = json.loads(made.stdout)
    present = {component["name"] for component in bill["components"]}
    if missing := {re.split(r"[^\w-]", needed)[0] for needed in project["dependencies"]} - present:
        raise SystemExit(f"{environment} lacks {', '.join(sorted(missing))}")
    product = bill["metadata"]["component"]
    product["version"] = version
    # No package URL: the package of this name on PyPI is another program.
    product["hashes"] = [{"alg": "SHA-256", "content": digest(wheel)}]
    (dist / f"{name}-{version}.cdx.json").write_text(json.dumps(bill, indent=2) + "\n")
    files = sorted(path for path in dist.iterdir() if path.name != "SHA256SUMS")
    (dist / "SHA256SUMS").write_text("".join(f"{digest(path)}  {path.name}\n" for path in files))
    print(f"{name} {version} with {len(bill['components'])} components: {', '.join(path.name for path in files)}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
