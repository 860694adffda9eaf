"""The rules of the house (CONTRIBUTING.md), read from the syntax trees: who imports what, how long it is.

Every rule is a function from a file to its violations, reported as `file:line: what is wrong, what to do`.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 40, 6

# A dependency and the files that may import it. What is not here is not a dependency of the product.
HOMES: dict[str, tuple[str, ...]] = {
    "torch": ("models/*",),
    "torchvision": ("models/*",),
    "safetensors": ("models/zoo/*", "models/training/*", "models/shapes/*"),
    "faster_coco_eval": ("models/evaluation/*",),
    "matplotlib": ("models/evaluation/*", "models/diagnosis/*", "models/training/report.py"),
    "yaml": ("models/datasets/*",),
    "cv2": ("models/lineage/*",),
    "openvino": ("models/engines/openvino_import.py",),
    "av": ("models/images/frames.py",),
    "nncf": ("models/quantization/*",),
    "numpy": ("app/*", "models/*", "client/*"),
    "PIL": (
        "models/images/*",
        "models/shapes/*",
        "client/rcnn_client/drawing.py",
        "client/rcnn_client/result.py",
    ),
    "fastapi": ("app/main.py", "app/routes/*", "app/protocols/*", "app/transport/*", "app/distributed/*"),
    "starlette": ("app/main.py", "app/routes/*", "app/protocols/*", "app/transport/*", "app/distributed/*"),
    "python_multipart": ("app/transport/*", "app/protocols/*"),
    "grpc": ("app/protocols/openinference/grpc/*",),
    "google": ("app/protocols/openinference/grpc/*",),
    "ray": ("app/distributed/ray_serve.py",),
    "opentelemetry": ("app/telemetry/*",),
    "uvicorn": ("app/server.py",),
    "websockets": ("app/server.py",),
    "prometheus_client": ("app/telemetry/*",),
    "pydantic": (
        "app/settings/*",
        "app/schemas/*",
        "app/transport/*",
        "app/routes/*",
        "app/protocols/*",
        "app/commands/*",
        "app/distributed/arguments.py",
        "models/zoo/cards.py",
    ),
    "pydantic_core": ("app/transport/*", "app/routes/*", "app/protocols/*"),
    "pydantic_settings": ("app/settings/*",),
    "typer": ("app/cli.py", "app/commands/*"),
    "rich": ("app/cli.py", "app/commands/*", "models/training/*", "models/shapes/*", "client/*"),
    "httpx": ("client/*", "app/transport/url_images.py", "models/zoo/*"),
    "supervision": ("client/*",),
    "tenacity": ("client/*",),
}

# Plain values: open to every room but the closed ones.
VALUES = (
    "models.detections models.options models.images models.tiling.tiles "
    "models.zoo.cards models.zoo.classes models.zoo.catalogue"
)
CLOSED = (
    *("app.batching", "app.settings", "app.telemetry", "rcnn_client"),
    *("models.ops", "models.networks", "models.zoo", "models.engines", "models.runtime"),
)
SERVING = "app.batching app.telemetry app.settings app.schemas"
TRANSPORT = f"app.serving {SERVING}"
ROUTES = f"app.transport {TRANSPORT}"
LEARNING = "models.evaluation models.datasets models.detector models.engines models.zoo"

# The rooms and what each may import beside the values; `app` (its version) and app.errors are open to all of
# app. Inside a room imports are free, but for cycles. A room that is named inside another is one of its own.
ARROWS: dict[str, str] = {
    # the command line and the server
    "app.cli": "app.commands",
    "app.commands": "rcnn_client app.schemas app.settings app.server app.serving.loading models",
    "app.server": "app.main app.serving app.telemetry app.settings",
    "app.distributed": f"app.main app.protocols.base {ROUTES}",
    "app.main": f"app.routes app.protocols {ROUTES} app.serving.loading",
    # a request, from the outside in
    "app.routes": ROUTES,
    "app.protocols": f"app.protocols.base {ROUTES}",
    "app.protocols.base": ROUTES,
    "app.transport": TRANSPORT,
    "app.serving": SERVING,
    "app.serving.loading": "app.settings app.serving models.detector models.runtime",
    "app.batching": "",
    "app.telemetry": "",
    "app.schemas": "",
    "app.settings": "",
    "app.errors": "",
    "app.client": "rcnn_client",
    "rcnn_client": "",
    # the detector
    "models.detections": "",
    "models.options": "",
    "models.images": "",
    "models.tiling.tiles": "",
    "models.ops": "",
    "models.networks": "",
    "models.runtime": "",
    "models.zoo": "models.networks",
    "models.engines": "models.ops",
    "models.pipeline": "models.engines.protocol models.ops",
    "models.detector": "models.pipeline models.engines models.ops models.zoo",
    "models.tiling": "models.detector",
    "models.datasets": "",
    "models.evaluation": "models.datasets models.detector models.tiling models.pipeline models.zoo",
    "models.diagnosis": "models.evaluation models.datasets models.detector models.pipeline models.zoo",
    "models.quantization": LEARNING,
    "models.training": f"{LEARNING} models.networks",
    "models.shapes": f"models.training models.networks {LEARNING}",
    "models.lineage": "models.pipeline models.ops models.engines models.networks",
    # the benchmarks
    "bench": "app models rcnn_client bench",
    "bench.harness": "app models bench.peers",
    "bench.capacity": "bench.harness app.serving app.errors models",
    "bench.peers": "models app.settings",
}
OURS = ("app", "models", "bench", "rcnn_client")
MOST_FILES = 16  # Python files in a folder

# `except Exception` is a last resort: once in each of these files, where somebody still waits for an answer.
LAST_RESORTS = (
    "app/batching/batcher.py",
    "app/batching/worker.py",
    "app/transport/middleware.py",
    "app/protocols/openinference/grpc/server.py",
    "app/cli.py",
)
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
        path = self.path.removeprefix("client/")  # a distribution of its own
        return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

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
    return (found for found in source.imports if found.name.split(".")[0] in OURS)


def dependencies(source: Source) -> Iterator[str]:
    for found in source.imports:
        top = found.name.split(".")[0]
        if top in sys.stdlib_module_names or top in OURS:
            continue
        homes = HOMES.get(top)
        if homes is None:
            yield f"{found.line}: {top} is no dependency of ours: do without it, or add to HOMES"
        elif not any(fnmatch(source.path, home) for home in homes):
            yield f"{found.line}: {top} is imported outside its home ({', '.join(homes)})"


def room_of(name: str) -> str:
    """The room that a dotted name lies in; each protocol is one of its own."""
    room = _longest_prefix(name, {*ARROWS, *OURS}) or name
    return ".".join(name.split(".")[:3]) if room == "app.protocols" else room


def arrows(source: Source) -> Iterator[str]:
    room = room_of(source.module)
    if room in ("app", "models") and source.module != room:
        yield f"1: {source.module} is in no room: say in ARROWS what it may import, and who may import it"
        return
    for found in _ours(source):
        if room_of(found.name) != room and not _may_import(room, found.name):
            yield f"{found.line}: {room} may not import {found.name}: arrows point down (see ARROWS)"


def _may_import(room: str, name: str) -> bool:
    allowed = ARROWS[_longest_prefix(room, set(ARROWS)) or "app"].split()
    if room not in CLOSED:
        allowed += VALUES.split()
    if room.startswith("app."):
        allowed.append("app.errors")
    version = name in ("app", "app.version") and not room.startswith("models")
    return version or any(name == one or name.startswith(f"{one}.") for one in allowed)


def mutual(sources: list[Source]) -> Iterator[str]:
    """Every pair of rooms that import each other."""
    edges = {(room_of(source.module), room_of(found.name)) for source in sources for found in _ours(source)}
    for one, other in sorted(edges):
        if one < other and (other, one) in edges:
            yield f"{one} and {other} import each other: move what both need below them"


def crowded(sources: list[Source]) -> Iterator[str]:
    """Every folder with more Python files than a newcomer can look over."""
    folders = Counter(source.path.rpartition("/")[0] for source in sources)
    for folder, count in sorted(folders.items()):
        if count > MOST_FILES:
            yield f"{folder}: {count} Python files, {MOST_FILES} is the most: make rooms by subject"


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
            yield f"{line}: the environment is read by app.settings.settings.Settings alone"


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
    found = {*cycles(sources), *mutual(sources), *crowded(sources)}
    for source in sources:
        rules = PRODUCT_RULES if source.path.startswith(("app/", "models/", "client/")) else OTHER_RULES
        found |= {f"{source.path}:{text}" for rule in rules for text in rule(source)}
    return sorted(found)


def project() -> list[Source]:
    folders = ("app", "client", "models", "bench", "tests")
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
        "tests/support/fakes.py",
    }
    assert known <= seen


BROKEN = {
    "torch in the service": (
        "app/serving/service.py",
        "import torch\n",
        "app/serving/service.py:1: torch is imported outside",
    ),
    "torch inside a function": (
        "app/serving/service.py",
        "def f():\n    from torch import nn\n",
        ":2: torch is imported outside",
    ),
    "starlette in the service": (
        "app/serving/service.py",
        "from starlette.requests import Request\n",
        "starlette is imported outside",
    ),
    "a submodule of a dependency": (
        "models/pipeline/canvas.py",
        "import PIL.Image\n",
        "PIL is imported outside",
    ),
    "metrics elsewhere": (
        "app/batching/batcher.py",
        "import prometheus_client\n",
        "prometheus_client is imported outside",
    ),
    "an unknown dependency": ("models/pipeline/canvas.py", "import pandas\n", "pandas is no dependency"),
    "an arrow upwards": (
        "models/detector.py",
        "from app.settings.settings import Settings\n",
        "models.detector may not import app",
    ),
    "an arrow sideways": (
        "app/batching/batcher.py",
        "from app.telemetry import metrics\n",
        "app.batching may not import app.telemetry.metrics",
    ),
    "a relative arrow": (
        "app/batching/batcher.py",
        "from ..serving.service import detect\n",
        "app.batching may not import app.serving.service",
    ),
    "a relative arrow, two up": (
        "app/routes/detect.py",
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
        "models/pipeline/canvas.py",
        "try:\n    pass\nexcept (ValueError, Exception):\n    pass\n",
        ":3: catches everything",
    ),
    "a second last resort": (
        "app/batching/worker.py",
        "try:\n    pass\nexcept Exception:\n    pass\ntry:\n    pass\nexcept:\n    pass\n",
        ":7: catches everything",
    ),
    "a bare except": (
        "models/pipeline/canvas.py",
        "try:\n    pass\nexcept:\n    pass\n",
        ":3: catches everything",
    ),
    "a long function": ("models/pipeline/canvas.py", "def f():\n" + "    x = 1\n" * 40, ":1: f has 41 lines"),
    "a long file": ("models/pipeline/canvas.py", "x = 1\n" * 301, ":301: the file has 301 lines"),
    "many parameters": (
        "models/pipeline/canvas.py",
        "def f(a, b, c, *, d, e, f, **g): ...\n",
        "f takes 7 parameters",
    ),
    "many parameters of a method": (
        "models/pipeline/canvas.py",
        "class A:\n    def f(self, a, b, c, d, e, f, g): ...\n",
        ":2: f takes 7",
    ),
    "a banned module name": ("app/routes/utils.py", "", "named after nothing"),
    "a banned class name": ("models/pipeline/canvas.py", "class QueueManager: ...\n", "class QueueManager"),
    "a banned suffix": ("models/pipeline/canvas.py", "class ErrorHandler: ...\n", "class ErrorHandler"),
    "a banned function name": ("models/pipeline/canvas.py", "def box_helper(): ...\n", "box_helper"),
    "an unexplained noqa": (
        "models/pipeline/canvas.py",
        "x = 1  # noqa: E501\n",
        ":1: # noqa: E501: an ignore names",
    ),
    "a noqa without a code": ("tests/models/pipeline/test_canvas.py", "x = 1  # noqa\n", "an ignore names"),
    "an unexplained type: ignore": (
        "models/pipeline/canvas.py",
        "x = 1  # type: ignore[misc]\n",
        "an ignore names",
    ),
}


@pytest.mark.parametrize(("path", "text", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(path: str, text: str, expected: str) -> None:
    found = violations([Source(path, text)])
    assert any(expected in line for line in found), found


SOUND = {
    "six parameters": ("models/pipeline/canvas.py", "class A:\n    def f(self, a, b, c, d, e, f): ...\n"),
    "forty lines": ("models/pipeline/canvas.py", "def f():\n" + "    x = 1\n" * 39),
    "a last resort": (
        "app/batching/worker.py",
        "try:\n    pass\nexcept Exception:  # noqa: BLE001  # it lives on\n    pass\n",
    ),
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
