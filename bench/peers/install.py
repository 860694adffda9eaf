"""A venv for each peer, which sees the packages of ours: `python -m bench.peers.install --into .venv/peers`.

torch is not installed again: a .pth file adds the site-packages of this interpreter to each venv, and pip
counts what it finds there. A package that a peer needs in another version is installed in its own venv, ahead
of ours.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from bench.peers.catalogue import PEERS, Peer, failure_note, select_peers, venv_python


def install(peer: Peer, venvs: Path) -> str | None:
    """Make the peer's venv; why it failed, or None. A peer that failed leaves a note and no venv."""
    folder, note = venvs / peer.name, failure_note(venvs, peer.name)
    note.unlink(missing_ok=True)
    venv.create(folder, with_pip=True)
    ours = sysconfig.get_path("purelib")
    theirs = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (theirs / "ours.pth").write_text(ours + "\n")
    command = [
        str(venv_python(venvs, peer.name)),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
    ]
    done = subprocess.run([*command, *peer.packages], stderr=subprocess.PIPE, text=True)  # noqa: S603  # pip
    if done.returncode == 0:
        return None
    reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR:")), "pip failed")
    note.write_text(reason)
    shutil.rmtree(folder)
    return reason


def main() -> None:
    """Install each peer that is not there yet; a failure is printed, and is no error."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [peer.name for peer in PEERS if peer.packages]
    parser.add_argument("names", nargs="*", default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--into", type=Path, default=Path(sys.prefix) / "peers", help="folder of the venvs")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    for peer in select_peers(arguments.names):
        if peer.packages and peer.missing(arguments.into):
            print(f"{peer.name}: {install(peer, arguments.into) or 'installed'}", flush=True)


if __name__ == "__main__":
    main()
