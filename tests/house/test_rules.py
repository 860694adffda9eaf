"""The project keeps the rules of the house, and the rules find what breaks them."""

import subprocess
import sys

import pytest

from tests.house.rules import ROOT, Source, project, violations
from tests.house.tables import MOST_FILES


def test_the_house_is_in_order() -> None:
    found = violations(project())
    assert not found, f"{len(found)} violation(s) of the rules of the house:\n" + "\n".join(found)


def test_the_rules_see_the_house() -> None:
    """A rule over an empty list of files would be green for ever."""
    seen = {source.path for source in project()}
    known = {
        "app/main.py",
        "app/routes/detect.py",
        "models/detector.py",
        "models/zoo/cards.py",
        "tests/support/fakes.py",
    }
    assert known <= seen


CANVAS, BATCHER, SERVICE = "models/pipeline/canvas.py", "app/batching/batcher.py", "app/serving/service.py"
WORKER, ITEM, ROUTE = "app/batching/worker.py", "app/batching/item.py", "app/routes/detect.py"
BROKEN = {
    "torch in the service": (
        SERVICE,
        "import torch\n",
        "app/serving/service.py:1: torch is imported outside",
    ),
    "torch inside a function": (
        SERVICE,
        "def f():\n    from torch import nn\n",
        ":2: torch is imported outside",
    ),
    "starlette in the service": (
        SERVICE,
        "from starlette.requests import Request\n",
        "starlette is imported outside",
    ),
    "a submodule of a dependency": (CANVAS, "import PIL.Image\n", "PIL is imported outside"),
    "metrics elsewhere": (BATCHER, "import prometheus_client\n", "prometheus_client is imported outside"),
    "an unknown dependency": (CANVAS, "import polars\n", "polars is no dependency"),
    "an arrow upwards": (
        "models/detector.py",
        "from app.settings.settings import Settings\n",
        "models.detector may not import app",
    ),
    "an arrow sideways": (
        BATCHER,
        "from app.telemetry import metrics\n",
        "app.batching may not import app.telemetry.metrics",
    ),
    "a relative arrow": (
        BATCHER,
        "from ..serving.service import detect\n",
        "app.batching may not import app.serving.service",
    ),
    "a relative arrow, two up": (
        ROUTE,
        "from ..server import serve\n",
        "app.routes may not import app.server",
    ),
    "a protocol of another": (
        "app/protocols/kserve.py",
        "from app.protocols.roboflow import router\n",
        "app.protocols.kserve may not import app.protocols.roboflow",
    ),
    "a module in no room": ("app/extra.py", "", "app.extra is in no room"),
    "os.environ": ("app/settings/settings.py", "import os\nx = os.environ['A']\n", ":2: the environment"),
    "os.getenv": ("app/settings/settings.py", "from os import getenv\n", ":1: the environment"),
    "a blind except": (
        CANVAS,
        "try:\n    pass\nexcept (ValueError, Exception):\n    pass\n",
        ":3: catches everything",
    ),
    "a second last resort": (
        WORKER,
        "try:\n    pass\nexcept Exception:\n    pass\ntry:\n    pass\nexcept:\n    pass\n",
        ":7: catches everything",
    ),
    "a bare except": (CANVAS, "try:\n    pass\nexcept:\n    pass\n", ":3: catches everything"),
    "a long function": (CANVAS, "def f():\n" + "    x = 1\n" * 40, ":1: f has 41 lines"),
    "a long file": (CANVAS, "x = 1\n" * 301, ":301: the file has 301 lines"),
    "many parameters": (CANVAS, "def f(a, b, c, *, d, e, f, **g): ...\n", "f takes 7 parameters"),
    "many parameters of a method": (
        CANVAS,
        "class A:\n    def f(self, a, b, c, d, e, f, g): ...\n",
        ":2: f takes 7",
    ),
    "a banned module name": ("app/routes/utils.py", "", "named after nothing"),
    "a banned class name": (CANVAS, "class QueueManager: ...\n", "class QueueManager"),
    "an old name": (ITEM, "class Waiter: ...\n", "Waiter is called QueueItem here"),
    "an old attribute": (
        ITEM,
        "class QueueItem:\n    def f(self):\n        self.holder = None\n",
        ":3: holder is called device here",
    ),
    "a banned suffix": (CANVAS, "class ErrorHandler: ...\n", "class ErrorHandler"),
    "a banned function name": (CANVAS, "def box_helper(): ...\n", "box_helper"),
    "an unexplained noqa": (CANVAS, "x = 1  # noqa: E501\n", ":1: # noqa: E501: an ignore names"),
    "a noqa without a code": ("tests/models/pipeline/test_canvas.py", "x = 1  # noqa\n", "an ignore names"),
    "an unexplained type: ignore": (CANVAS, "x = 1  # type: ignore[misc]\n", "an ignore names"),
}


@pytest.mark.parametrize(("path", "text", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(path: str, text: str, expected: str) -> None:
    found = violations([Source(path, text)])
    assert any(expected in line for line in found), found


SOUND = {
    "a kernel's parameters": (CANVAS, "@triton.jit\ndef f(a, b, c, d, e, f, g): ...\n"),
    "six parameters": (CANVAS, "class A:\n    def f(self, a, b, c, d, e, f): ...\n"),
    "forty lines": (CANVAS, "def f():\n" + "    x = 1\n" * 39),
    "a last resort": (WORKER, "try:\n    pass\nexcept Exception:  # noqa: BLE001  # it lives on\n    pass\n"),
    "a log handler": ("app/telemetry/logs.py", "import logging\nclass JsonHandler(logging.Handler): ...\n"),
    "a home": ("app/telemetry/metrics.py", "from prometheus_client import Counter\n"),
}


@pytest.mark.parametrize(("path", "text"), SOUND.values(), ids=SOUND)
def test_what_the_rules_allow_is_let_through(path: str, text: str) -> None:
    assert violations([Source(path, text)]) == []


def test_a_cycle_is_found_with_its_way_back() -> None:
    a = Source("models/zoo/cards.py", "from models.zoo.weights import load\n")
    b = Source("models/zoo/weights.py", "def f():\n    from models.zoo import catalogue\n")
    c = Source("models/zoo/catalogue.py", "from models.zoo.cards import Card\n")
    found = violations([a, b, c])
    way = "models.zoo.cards → models.zoo.weights → models.zoo.catalogue → models.zoo.cards"
    assert f"models/zoo/cards.py:1: a cycle of imports: {way}" in found
    assert len(found) == 3


def test_two_rooms_that_import_each_other_are_found() -> None:
    a = Source("app/routes/detect.py", "from app.serving.service import Service\n")
    b = Source("app/serving/service.py", "from app.routes.detect import router\n")
    assert "app.routes and app.serving import each other: move what both need below them" in violations(
        [a, b]
    )


def test_a_folder_of_too_many_files_is_found() -> None:
    files = [Source(f"app/routes/route_{number}.py", "") for number in range(MOST_FILES + 1)]
    assert "app/routes: 17 Python files, 16 is the most: make rooms by subject" in violations(files)
    assert violations(files[1:]) == []


def test_the_service_imports_without_torch_and_without_settings() -> None:
    """The port must answer before the model is there; a broken setting is an error of the start."""
    program = (
        "import importlib, pkgutil, sys, app\n"
        "import models.detections, models.images.drawing, models.images.decoder\n"
        "import models.options, models.zoo.catalogue\n"
        "for found in pkgutil.walk_packages(app.__path__, 'app.'):\n"
        "    if found.name.startswith('app.commands.'):\n"  # each is imported when it is asked for
        "        continue\n"
        "    importlib.import_module(found.name)\n"
        "    assert 'torch' not in sys.modules, found.name + ' brings torch'\n"
        "assert 'app.main' in sys.modules\n"
    )
    environment = {"RCNN_PORT": "none", "RCNN_NO_SUCH_SETTING": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
