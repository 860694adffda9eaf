"""The rules of the house (CONTRIBUTING.md), read from the syntax trees.

Each is a function from a file to its violations, reported as `file:line: what is wrong, what to do`.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path

from tests.house.tables import ARROWS, CLOSED, HOMES, LAST_RESORTS, MOST_FILES, OLD_NAMES, OURS, VALUES

ROOT = Path(__file__).parents[2]
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 40, 6

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


# The first tells Ray's own processes where our part of them is and reads nothing; the second is the client's.
MAY_USE_VARIABLES = ("app/distributed/ray_serve.py", "client/rcnn_client/defaults.py")


def environment(source: Source) -> Iterator[str]:
    if source.path in MAY_USE_VARIABLES:
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


def file_length(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > MAX_FILE:
        yield f"{MAX_FILE + 1}: the file has {lines} lines, {MAX_FILE} is the most: split it by subject"


def lengths(source: Source) -> Iterator[str]:
    yield from file_length(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield f"{node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION} is the most"


def _is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A kernel of a GPU takes pointers and numbers, never an object."""
    return any(ast.unparse(decorator) == "triton.jit" for decorator in node.decorator_list)


def parameters(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            args = node.args
            rest = [arg for arg in (args.vararg, args.kwarg) if arg]
            names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, *rest)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > MAX_PARAMETERS and not _is_kernel(node):
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


def old_names(source: Source) -> Iterator[str]:
    """Definitions and attributes of ours that have an old name."""
    for node in ast.walk(source.tree):
        for name in _defined(node):
            if name in OLD_NAMES:
                line = getattr(node, "lineno", 1)
                yield f"{line}: {name} is called {OLD_NAMES[name]} here: one name, one thing"


def _defined(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name
        case ast.Attribute(ctx=ast.Store()):
            yield node.attr
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign():
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


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


PRODUCT_RULES = (
    *(dependencies, arrows, environment, last_resorts, lengths, parameters, words, old_names),
    ignores,
)
OTHER_RULES = (file_length, words, ignores)


def violations(sources: list[Source]) -> list[str]:
    """All that is wrong with these files, as `file:line: text`."""
    found = {*cycles(sources), *mutual(sources), *crowded(sources)}
    for source in sources:
        rules = PRODUCT_RULES if source.path.startswith(("app/", "models/", "client/")) else OTHER_RULES
        found |= {f"{source.path}:{text}" for rule in rules for text in rule(source)}
    return sorted(found)


@cache
def project() -> list[Source]:
    """Every Python file of the project, parsed once."""
    folders = ("app", "client", "models", "bench", "examples", "tests")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    paths = [path for path in paths if "_pb2" not in path.name]  # generated: make proto
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]
