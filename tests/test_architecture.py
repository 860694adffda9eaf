"""The rules of the house (CONTRIBUTING.md), read from the syntax trees: who imports what, how long it is.

Every rule is a function from a file to its violations, reported as `file:line: what is wrong, what to do`.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 40, 6

# A dependency and the files that may import it. What is not here is not a dependency of the product.
HOMES: dict[str, tuple[str, ...]] = {
    "torch": ("models/*",),
    "torchvision": ("models/*",),
    "safetensors": ("models/zoo/*", "models/training/*"),
    "faster_coco_eval": ("models/evaluation/*",),
    "matplotlib": ("models/evaluation/*", "models/training/report.py"),
    "yaml": ("models/training/*",),
    "cv2": ("models/lineage/*",),
    "openvino": ("models/engines/runtime.py",),
    "av": ("models/frames.py",),
    "nncf": ("models/quantization/*",),
    "numpy": ("app/*", "models/*"),
    "PIL": (
        "models/images.py",
        "models/picture_modes.py",
        "models/drafts.py",
        "models/orientation.py",
        "models/drawing.py",
        "models/frames.py",
        "models/training/synthetic.py",
        "models/training/samples.py",
    ),
    "fastapi": ("app/main.py", "app/routes/*", "app/middleware.py", "app/distributed/replica.py"),
    "starlette": (
        "app/main.py",
        "app/routes/*",
        "app/middleware.py",
        "app/distributed/door.py",
        "app/distributed/replica.py",
    ),
    "python_multipart": ("app/routes/*",),
    "grpc": ("app/rpc/*",),
    "ray": ("app/distributed/ray_serve.py",),
    "google": ("app/rpc/messages.py",),
    "opentelemetry": ("app/otlp.py",),
    "uvicorn": ("app/server.py",),
    "websockets": ("app/server.py",),
    "prometheus_client": ("app/metrics.py",),
    "pydantic": (
        "app/settings.py",
        "app/key_settings.py",
        "app/model_settings.py",
        "app/schemas.py",
        "app/state_schemas.py",
        "app/openinference.py",
        "app/routes/*",
        "app/commands/*",
        "app/distributed/arguments.py",
        "models/zoo/cards.py",
    ),
    "pydantic_core": ("app/routes/*",),
    "pydantic_settings": ("app/settings.py", "app/key_settings.py", "app/model_settings.py"),
    "typer": ("app/cli.py", "app/commands/*"),
    "rich": ("app/cli.py", "app/client/many.py", "app/commands/*", "models/training/*"),
    "httpx": ("app/client/*", "app/fetch.py", "models/zoo/*"),
    "supervision": ("app/client/result.py",),
}

# The arrows between our own rooms, all pointing down. Inside a room imports are free, but for cycles.
VALUES = "models.detections models.images models.options models.tiles"
ARROWS: dict[str, str] = {
    "app": "",
    # the command line and the server
    "app.cli": "app app.commands",
    "app.loading": "app.settings models.lean_import models.detector models.memory",
    "app.commands": "app.client app.exports app.loading app.server app.settings app.settings_table "
    "models.detector models.drawing models.zoo models.evaluation models.training "
    "models.training.synthetic models.lineage models.engines models.quantization models.tiled models.frames "
    f"{VALUES}",
    "app.client": "models.detections models.drawing models.images",
    "app.server": "app app.main app.detector app.service app.settings app.logs",
    "app.main": "app app.detector app.routes app.middleware app.service app.model app.worker app.admission "
    "app.batcher app.devices app.waiting_room "
    "app.plan app.errors app.metrics app.settings app.schemas app.logs app.loading app.fetch app.rpc "
    "app.streams app.tracing app.otlp",
    "app.distributed": "app.main app.routes app.middleware app.service app.detector app.metrics app.errors "
    "app.logs app.settings",
    # a request, from the outside in
    "app.exports": "models.detections",
    "app.routes": "app app.caller app.service app.streams app.plan app.schemas app.state_schemas app.errors "
    "app.logs app.settings app.model app.repository app.fetch app.exports app.keys app.openinference "
    "app.tensors models.detections models.zoo",
    "app.rpc": "app app.repository app.openinference app.tensors app.keys app.service app.streams app.plan "
    "app.errors app.logs app.tracing",
    "app.repository": "app.service app.errors",
    "app.openinference": "app app.caller app.model app.service app.plan app.schemas app.errors app.tensors "
    "models.detections",
    "app.tensors": "app.errors app.plan models.images",
    "app.keys": "app.errors app.service",
    "app.middleware": "app.errors app.metrics app.logs app.tracing",
    "app.service": "app.swap app.admission app.batcher app.devices app.waiting app.caller app.preparation "
    f"app.tiled app.timings app.detector app.planning app.model app.plan app.errors app.metrics "
    f"app.settings app.tracing {VALUES}",
    "app.planning": "app.caller app.errors app.model app.plan app.settings models.options models.tiles",
    "app.timings": "app.model app.plan app.preparation app.tracing app.waiting",
    "app.detector": f"models.zoo {VALUES}",
    "app.state_schemas": "app.schemas",
    "app.swap": "app.admission app.batcher app.model app.errors app.metrics app.settings models.zoo",
    "app.preparation": "app.caller app.detector app.model app.plan app.errors app.metrics app.settings "
    f"models.drawing {VALUES}",
    "app.tiled": f"app.detector app.waiting app.model {VALUES}",
    "app.model": f"app.detector app.worker app.errors app.metrics app.tracing models.zoo {VALUES}",
    "app.plan": f"app.caller app.model app.errors app.schemas {VALUES}",
    "app.streams": f"app.service app.plan app.errors app.metrics models.frames {VALUES}",
    "app.fetch": "app.errors",
    "app.batcher": "app.caller app.devices app.waiting_room app.waiting app.worker",
    "app.devices": "app.waiting app.worker",
    "app.waiting_room": "app.ranked_queue app.waiting",
    "app.ranked_queue": "app.caller app.grouped_queue",
    "app.waiting": "",
    "app.caller": "",
    "app.grouped_queue": "",
    "app.worker": "",
    "app.admission": "app.caller app.errors",
    "app.schemas": "models.tiles",
    "app.errors": "models.images",
    "app.logs": "app.tracing",
    "app.tracing": "",
    "app.otlp": "app app.tracing",
    "app.metrics": "",
    "app.settings": "app.key_settings app.model_settings",
    "app.key_settings": "",
    "app.model_settings": "",
    "app.settings_table": "app.settings",
    # the detector
    "models": "",
    "models.training": "models.training.synthetic models.evaluation models.detector models.engines "
    f"models.networks models.zoo models.drawing {VALUES}",
    "models.quantization": "models.training models.evaluation models.detector models.engines models.zoo "
    f"{VALUES}",
    "models.lineage": "models.canvas models.engines models.networks models.proposals models.roi_align "
    f"models.postprocess {VALUES}",
    "models.evaluation": "models.training.synthetic models.detector models.tiled models.proposals "
    f"models.zoo {VALUES}",
    "models.training.synthetic": "models.training.outlines",
    "models.training.outlines": "",
    "models.batch_size": "",
    "models.detector": "models.batch_size models.canvas models.engines models.proposals models.roi_align "
    f"models.postprocess models.room models.stages models.upload models.nvjpeg models.zoo {VALUES}",
    "models.zoo": "models.networks",
    "models.proposals": "models.engines models.suppression",
    "models.roi_align": "models.room",
    "models.room": "",
    "models.stages": "",
    "models.upload": "models.canvas models.images",
    "models.nvjpeg": "models.images",
    "models.postprocess": "models.canvas models.detections models.options models.suppression",
    "models.suppression": "",
    "models.engines": "models.room models.suppression",
    "models.networks": "",
    "models.canvas": "models.images",
    "models.drawing": "models.detections models.images",
    "models.frames": "models.images models.image_headers models.avif_headers",
    "models.images": "models.drafts models.image_headers models.avif_headers models.orientation "
    "models.picture_modes",
    "models.drafts": "models.avif_headers models.orientation",
    "models.orientation": "",
    "models.picture_modes": "",
    "models.image_headers": "models.avif_headers",
    "models.avif_headers": "",
    "models.tiled": f"models.detector {VALUES}",
    "models.tiles": "models.detections models.images models.options",
    "models.detections": "",
    "models.lean_import": "",
    "models.memory": "",
    "models.options": "",
}

# `except Exception` is a last resort: once in each of these files, where somebody still waits for an answer.
LAST_RESORTS = ("app/batcher.py", "app/worker.py", "app/middleware.py", "app/rpc/server.py", "app/cli.py")
IGNORE = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no)")
EXPLAINED_IGNORE = re.compile(
    r"#\s*(noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|type:\s*ignore\[[^]]+\]|pragma:\s*no (cover|branch))[\s:#-]+\w+"
)


@dataclass(frozen=True)
class Import:
    """One imported name, in full ("models.zoo.cards.Card"), and its line."""

    name: str
    line: int


@dataclass(frozen=True)
class Source:
    """A Python file of the project: its path from the root, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        return self.module if self.path.endswith("__init__.py") else self.module.rpartition(".")[0]

    @cached_property
    def imports(self) -> list[Import]:
        """Every import, wherever it stands: one inside a function is an arrow too."""
        return [found for node in ast.walk(self.tree) for found in _imports(node, self.package)]


def _imports(node: ast.AST, package: str) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in node.names)


def _longest_prefix(name: str, known: set[str]) -> str | None:
    """The module or room that a dotted name lies in: its longest prefix that is known."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def _ours(source: Source) -> Iterator[Import]:
    return (found for found in source.imports if found.name.split(".")[0] in ("app", "models"))


def dependencies(source: Source) -> Iterator[str]:
    for found in source.imports:
        top = found.name.split(".")[0]
        if top in sys.stdlib_module_names or top in ("app", "models"):
            continue
        homes = HOMES.get(top)
        if homes is None:
            yield f"{found.line}: {top} is no dependency of ours: do without it, or add to HOMES"
        elif not any(fnmatch(source.path, home) for home in homes):
            yield f"{found.line}: {top} is imported outside its home ({', '.join(homes)})"


def arrows(source: Source) -> Iterator[str]:
    rooms = set(ARROWS)
    room = _longest_prefix(source.module, rooms)
    if room in ("app", "models") and source.module != room:
        yield f"1: {source.module} is in no room: say in ARROWS what it may import, and who may import it"
        return
    for found in _ours(source):
        target = _longest_prefix(found.name, rooms)
        if target != room and target not in ARROWS[room or "app"].split():
            yield f"{found.line}: {room} may not import {target}: arrows point down (see ARROWS)"


# It tells Ray's own processes where our part of them is; it reads nothing.
SETS_A_VARIABLE = ("app/distributed/ray_serve.py",)


def environment(source: Source) -> Iterator[str]:
    if source.path in SETS_A_VARIABLE:
        return
    banned = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv"}
    uses = [
        (ast.unparse(node), node.lineno) for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)
    ]
    for name, line in [*uses, *((found.name, found.line) for found in source.imports)]:
        if name in banned:
            yield f"{line}: the environment is read by app.settings.Settings alone"


def last_resorts(source: Source) -> Iterator[str]:
    allowed = 1 if source.path in LAST_RESORTS else 0
    caught = [
        node for node in ast.walk(source.tree) if isinstance(node, ast.ExceptHandler) and _catches_all(node)
    ]
    for node in caught[allowed:]:
        yield f"{node.lineno}: catches everything: name the exceptions that you can answer"


def _catches_all(node: ast.ExceptHandler) -> bool:
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def lengths(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > MAX_FILE:
        yield f"{MAX_FILE + 1}: the file has {lines} lines, {MAX_FILE} is the most: split it by subject"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield f"{node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION} is the most"


def parameters(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            args = node.args
            rest = [arg for arg in (args.vararg, args.kwarg) if arg]
            names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, *rest)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > MAX_PARAMETERS:
                yield f"{node.lineno}: {node.name} takes {count} parameters, {MAX_PARAMETERS} is the most"


def words(source: Source) -> Iterator[str]:
    if re.search(r"(^|[._])(utils?|helpers?)($|[._])", source.module):
        yield f"1: {source.module} is named after nothing: name it after its subject"
    nameless = re.compile(r"(^|_)(utils?|helpers?)($|_)")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            inherited = any(
                ast.unparse(base).endswith("Handler") for base in node.bases
            )  # the library's word
            if "Manager" in node.name or (node.name.endswith("Handler") and not inherited):
                yield f"{node.lineno}: class {node.name}: name it after what it is (see the glossary)"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and nameless.search(node.name):
            yield f"{node.lineno}: {node.name}: name it after what it does"


def ignores(source: Source) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        comment = token.string if token.type == tokenize.COMMENT else ""
        if IGNORE.match(comment) and not EXPLAINED_IGNORE.match(comment):
            yield f"{token.start[0]}: {comment}: an ignore names a code and gives its reason"


def cycles(sources: list[Source]) -> Iterator[str]:
    """Every import that leads back to the module it stands in, with the way back."""
    modules = {source.module for source in sources}
    edges = {
        source.module: {_longest_prefix(found.name, modules): found.line for found in _ours(source)}
        for source in sources
    }
    for source in sources:
        for target, line in edges[source.module].items():
            elsewhere = target if target != source.module else None  # itself: a name of a module not there
            way = _way(edges, elsewhere, source.module) if elsewhere else None
            if way:
                yield f"{source.path}:{line}: a cycle of imports: {' → '.join([source.module, *way])}"


def _way(edges: dict[str, dict[str | None, int]], start: str, end: str) -> list[str] | None:
    """The modules from start to end along the imports, or None where there is no way."""
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        nexts = [module for module in edges.get(way[-1], {}) if module and module not in seen]
        seen.update(nexts)
        ways += [[*way, module] for module in nexts]
    return None


PRODUCT_RULES = (dependencies, arrows, environment, last_resorts, lengths, parameters, words, ignores)
OTHER_RULES = (words, ignores)


def violations(sources: list[Source]) -> list[str]:
    """All that is wrong with these files, as `file:line: text`."""
    found = set(cycles(sources))
    for source in sources:
        rules = PRODUCT_RULES if source.path.startswith(("app/", "models/")) else OTHER_RULES
        found |= {f"{source.path}:{text}" for rule in rules for text in rule(source)}
    return sorted(found)


def project() -> list[Source]:
    folders = ("app", "models", "bench", "tests")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


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
        "tests/fakes.py",
    }
    assert known <= seen


BROKEN = {
    "torch in the service": (
        "app/service.py",
        "import torch\n",
        "app/service.py:1: torch is imported outside",
    ),
    "torch inside a function": (
        "app/service.py",
        "def f():\n    from torch import nn\n",
        ":2: torch is imported outside",
    ),
    "starlette in the service": (
        "app/service.py",
        "from starlette.requests import Request\n",
        "starlette is imported outside",
    ),
    "a submodule of a dependency": ("models/canvas.py", "import PIL.Image\n", "PIL is imported outside"),
    "metrics elsewhere": (
        "app/batcher.py",
        "import prometheus_client\n",
        "prometheus_client is imported outside",
    ),
    "an unknown dependency": ("models/canvas.py", "import pandas\n", "pandas is no dependency"),
    "an arrow upwards": (
        "models/detector.py",
        "from app.settings import Settings\n",
        "models.detector may not import app",
    ),
    "an arrow sideways": (
        "app/batcher.py",
        "from app import metrics\n",
        "app.batcher may not import app.metrics",
    ),
    "a relative arrow": (
        "app/batcher.py",
        "from .service import detect\n",
        "app.batcher may not import app.service",
    ),
    "a relative arrow, two up": (
        "app/routes/detect.py",
        "from ..server import serve\n",
        "app.routes may not import app.server",
    ),
    "a module in no room": ("app/extra.py", "", "app.extra is in no room"),
    "os.environ": ("app/settings.py", "import os\nx = os.environ['A']\n", ":2: the environment"),
    "os.getenv": ("app/settings.py", "from os import getenv\n", ":1: the environment"),
    "a blind except": (
        "models/canvas.py",
        "try:\n    pass\nexcept (ValueError, Exception):\n    pass\n",
        ":3: catches everything",
    ),
    "a second last resort": (
        "app/worker.py",
        "try:\n    pass\nexcept Exception:\n    pass\ntry:\n    pass\nexcept:\n    pass\n",
        ":7: catches everything",
    ),
    "a bare except": ("models/canvas.py", "try:\n    pass\nexcept:\n    pass\n", ":3: catches everything"),
    "a long function": ("models/canvas.py", "def f():\n" + "    x = 1\n" * 40, ":1: f has 41 lines"),
    "a long file": ("models/canvas.py", "x = 1\n" * 301, ":301: the file has 301 lines"),
    "many parameters": ("models/canvas.py", "def f(a, b, c, *, d, e, f, **g): ...\n", "f takes 7 parameters"),
    "many parameters of a method": (
        "models/canvas.py",
        "class A:\n    def f(self, a, b, c, d, e, f, g): ...\n",
        ":2: f takes 7",
    ),
    "a banned module name": ("app/routes/utils.py", "", "named after nothing"),
    "a banned class name": ("models/canvas.py", "class QueueManager: ...\n", "class QueueManager"),
    "a banned suffix": ("models/canvas.py", "class ErrorHandler: ...\n", "class ErrorHandler"),
    "a banned function name": ("models/canvas.py", "def box_helper(): ...\n", "box_helper"),
    "an unexplained noqa": ("models/canvas.py", "x = 1  # noqa: E501\n", ":1: # noqa: E501: an ignore names"),
    "a noqa without a code": ("tests/test_canvas.py", "x = 1  # noqa\n", "an ignore names"),
    "an unexplained type: ignore": ("models/canvas.py", "x = 1  # type: ignore[misc]\n", "an ignore names"),
}


@pytest.mark.parametrize(("path", "text", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(path: str, text: str, expected: str) -> None:
    found = violations([Source(path, text)])
    assert any(expected in line for line in found), found


SOUND = {
    "six parameters": ("models/canvas.py", "class A:\n    def f(self, a, b, c, d, e, f): ...\n"),
    "forty lines": ("models/canvas.py", "def f():\n" + "    x = 1\n" * 39),
    "a last resort": (
        "app/worker.py",
        "try:\n    pass\nexcept Exception:  # noqa: BLE001  # it lives on\n    pass\n",
    ),
    "a log handler": ("app/logs.py", "import logging\nclass JsonHandler(logging.Handler): ...\n"),
    "a home": ("app/metrics.py", "from prometheus_client import Counter\n"),
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


def test_the_service_imports_without_torch_and_without_settings() -> None:
    """The port must answer before the model is there; a broken setting is an error of the start."""
    program = (
        "import importlib, pkgutil, sys, app\n"
        "import models.detections, models.drawing, models.images, models.options, models.zoo.catalogue\n"
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
