"""The base install in a fresh environment: packages and bytes, beside another's when its folder is given.

    python benchmarks/installation.py --peer ENVIRONMENT

Installs this checkout, pinned by requirements.txt, without extras, by the pip of this Python.  Packages are
counted without pip and setuptools, which an environment begins with; bytes are the files' own sizes, of the
whole environment and without those two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNCOUNTED = {"pip", "setuptools", "wheel"}
UNCOUNTED_FOLDERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack")
MOST_PACKAGES, MOST_BYTES = 45, 1.3e9


def main() -> None:
    """Install, count, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help="the other's environment, a folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name) / "environment"
        venv.create(fresh, with_pip=True)
        python = str(fresh / "bin" / "python")
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        pinned = [
            line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if "==" in line
        ]
        constraints = Path(name) / "constraints.txt"
        constraints.write_text("\n".join(pinned), encoding="utf-8")
        subprocess.run([*pip, "-c", str(constraints), str(ROOT)], check=True, stderr=subprocess.DEVNULL)
        print("| environment | packages | GB | without pip, GB | torch, GB |")
        print("| --- | ---: | ---: | ---: | ---: |")
        print_row("proponent", fresh)
        names = ", ".join(sorted(packages(fresh)))
    if given.peer:
        print_row("bergson", given.peer)
    print(f"The target is {MOST_PACKAGES} packages and {MOST_BYTES / 1e9} GB at most.")
    print(f"proponent's: {names}")
    print(f"{platform.platform()}, Python {platform.python_version()}")


def print_row(name: str, environment: Path) -> None:
    """One row of the table."""
    site = next(environment.glob("lib/python*/site-packages"))
    started_with = [
        place for start in UNCOUNTED_FOLDERS for place in site.glob(f"{start}*") if place.is_dir()
    ]
    whole, torch = size(environment), size(site / "torch")
    sizes = (whole, whole - sum(map(size, started_with)), torch)
    print(f"| {name} | {len(packages(environment))} | {' | '.join(f'{n / 1e9:.3f}' for n in sizes)} |")


def packages(environment: Path) -> set[str]:
    """Names of the installed packages."""
    site = next(environment.glob("lib/python*/site-packages"))
    command = [sys.executable, "-m", "pip", "list", "--path", str(site), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {entry["name"].lower() for entry in json.loads(done.stdout)} - UNCOUNTED


def size(folder: Path) -> int:
    """Bytes of all files below a folder, links not followed."""
    return sum(
        os.lstat(os.path.join(place, file)).st_size for place, _, files in os.walk(folder) for file in files
    )


if __name__ == "__main__":
    main()
