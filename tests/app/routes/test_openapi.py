"""Schemathesis on the server's own OpenAPI: it meets no fault of ours and no undocumented answer."""

import subprocess
import sys
from pathlib import Path

from tests.support.process import Program
from tests.support.served import ROOT

RUN = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"


def test_schemathesis_finds_nothing(start: type[Program], tmp_path: Path) -> None:
    program = start(api_keys="secret")
    program.logged("ready")
    config = tmp_path / "schemathesis.toml"
    config.write_text((ROOT / "schemathesis.toml").read_text().replace('"shapes"', '"fake"'))
    done = subprocess.run(
        [
            *(sys.executable, "-c", RUN, "--config-file", str(config)),
            *("run", f"http://127.0.0.1:{program.port}/openapi.json"),
            *("--checks", "all", "--phases", "examples,fuzzing", "--max-examples", "3", "--seed", "1"),
            *("--no-shrink", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "generated" in done.stdout
