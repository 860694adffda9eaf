"""A Prometheus of the tests' own: the real program in a temporary folder, on a free port, scraping often."""

import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

PROGRAM = shutil.which("prometheus")
needed = pytest.mark.skipif(PROGRAM is None, reason="prometheus is not installed here")


class Prometheus:
    """The program, scraping one address under the job's name as `docker/prometheus/prometheus.yml` has it."""

    def __init__(self, folder: Path, target: str, job: str) -> None:
        assert PROGRAM is not None
        config = {
            "global": {"scrape_interval": "250ms"},
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._process = subprocess.Popen(
            [
                PROGRAM,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._client = httpx.Client(base_url=f"http://{self._address()}", timeout=30)
        self._rest = threading.Thread(target=self._read_on, daemon=True)  # or a full pipe would stop it
        self._rest.start()

    def _address(self) -> str:
        """Where it listens, as its log says once it is ready for questions."""
        assert self._process.stderr is not None
        log, address = "", ""
        for line in self._process.stderr:
            log += line
            if found := re.search(r'msg="Listening on" address=(\S+)', line):
                address = found[1]
            if address and "ready to receive web requests" in line:
                return address
        raise AssertionError(f"prometheus did not start:\n{log}")

    def _read_on(self) -> None:
        assert self._process.stderr is not None
        for _ in self._process.stderr:
            pass

    def ask(self, expression: str) -> list[float]:
        """The values of an instant query, now; empty where there is no data."""
        return [float(one["value"][1]) for one in self._get("query", query=expression)["result"]]

    def label_values(self, label: str, selector: str) -> list[str]:
        """The values that a label has among the series of a selector."""
        return list(self._get(f"label/{label}/values", **{"match[]": selector}))

    def _get(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def close(self) -> None:
        """End it, and wait for that."""
        self._process.terminate()
        self._process.wait(30)
        self._rest.join(30)
        self._client.close()
        assert self._process.stderr is not None
        self._process.stderr.close()
