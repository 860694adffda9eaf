"""Generates clients of /openapi.json and calls a server with them: `make test-clients`. Needs Node.js, npm.

It lints the document (spectral:oas), generates with openapi-python-client and openapi-typescript in
build/clients, and calls POST /detect with a file. The package indices must be reachable.
"""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import httpx

from tests.support.chromium import served
from tests.support.served import ROOT

FOLDER = ROOT / "build" / "clients"
HERE = Path(__file__).parent
PHOTO = ROOT / "samples" / "shapes-1.jpg"
PYTHON_PACKAGE = "openapi-python-client==0.29.1"
NODE_PACKAGES = (
    *("@stoplight/spectral-cli@6.16.3", "openapi-typescript@7.13.0", "openapi-fetch@0.17.0"),
    *("typescript@5.9.3", "@types/node@24"),
)
COMPILE = "--strict --target es2022 --module es2022 --moduleResolution bundler --skipLibCheck"


def run(*command: str | Path) -> None:
    """Run a command in the folder of the clients; raises CalledProcessError."""
    subprocess.run([str(part) for part in command], cwd=FOLDER, check=True)


def install() -> None:
    """What generates and calls, into the folder of the clients."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "venv").is_dir():
        venv.create(FOLDER / "venv", with_pip=True)
    run(FOLDER / "venv/bin/python", "-m", "pip", "install", "-qq", PYTHON_PACKAGE)
    (FOLDER / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    run("npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PACKAGES)


def lint() -> None:
    """Spectral's rules for OpenAPI; a warning fails too."""
    (FOLDER / "spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    run("npx", "spectral", "lint", "openapi.json", "--ruleset", "spectral.yaml", "--fail-severity", "hint")


def call_python(url: str) -> None:
    """Generate a Python client and call with it."""
    options = "--path openapi.json --output-path rcnn_api --meta none --overwrite"
    run(FOLDER / "venv/bin/openapi-python-client", "generate", *options.split())
    shutil.copy(HERE / "call_python.py", FOLDER)
    run(FOLDER / "venv/bin/python", "call_python.py", url, PHOTO)


def call_typescript(url: str) -> None:
    """Generate TypeScript's types, compile a program with them strictly, and call with it."""
    run("npx", "openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    shutil.copy(HERE / "call_typescript.ts", FOLDER / "call.ts")
    run("npx", "tsc", *COMPILE.split(), "call.ts")
    run("node", "call.js", url, PHOTO)


def main() -> int:
    """Exit with 1 where a tool is missing; a failing step raises."""
    if not all(map(shutil.which, ("node", "npm", "npx"))):
        print("make test-clients needs Node.js 20 or newer with npm", file=sys.stderr)
        return 1
    install()
    with served(None, model="shapes", device="cpu") as base:
        url = base.rstrip("/")
        (FOLDER / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
        lint()
        call_python(url)
        call_typescript(url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
