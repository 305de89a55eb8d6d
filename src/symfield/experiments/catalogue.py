"""Studies as modules: listed from their text without importing anything, and loaded from a user's own file by path."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import pkgutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from symfield.experiments.errors import StudyError

__all__ = ["Entry", "entries", "load_module", "loaded_by_path"]


@dataclass(frozen=True)
class Entry:
    """A study as its module's text tells it.

    Args:
        name: the module's name.
        claim: the claim given to ``Study(...)``, or the first line of the module's docstring.
    """

    name: str
    claim: str


class _PathLoader(importlib.machinery.SourceFileLoader):
    """Marks a module that was loaded from a user's path; always from its text.

    Python tells cached bytecode by the second and the size of the source: two quick edits may look alike to it.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def entries(package: str) -> list[Entry]:
    """The studies of a package, read from their text without importing them.

    Args:
        package: dotted name; its public modules that define ``STUDY`` are studies.

    Returns:
        Entries in alphabetical order; empty when there is no such package.
    """
    found = []
    for name, path in sorted(_modules(package).items()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        call = _study_call(tree)
        if call is not None:
            given = "".join(_text(word.value) for word in call.keywords if word.arg == "claim")
            claim = given or (ast.get_docstring(tree) or "").partition("\n")[0]
            found.append(Entry(name, " ".join(claim.split())))
    return found


def load_module(path: str | Path, holding: str = "STUDY = Study(...)") -> ModuleType:
    """A user's own file as a module. Modules next to the file can be imported by it.

    Args:
        path: a Python file.
        holding: what it should hold, for the message when it is missing.

    Returns:
        The module.

    Raises:
        StudyError: if the file is missing, raises on import, or has the name of another module.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise StudyError(f"no such file: {path}; give the path of a Python file with {holding}")
    name = file.stem
    if not name.isidentifier():
        raise StudyError(f"{file.name} cannot be imported; rename it to letters, digits and underscores")
    if _is_taken(name, file):
        raise StudyError(f"{file.name} has the name of another module; rename the file")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file, loader=_PathLoader(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise StudyError(f"{path} could not be loaded: {type(error).__name__}: {error}") from error
    return module


def loaded_by_path(module: str) -> str | None:
    """The file of a module that :func:`load_module` loaded, else None.

    Args:
        module: the module's name.

    Returns:
        The path.
    """
    loader = getattr(sys.modules.get(module), "__loader__", None)
    return loader.path if isinstance(loader, _PathLoader) else None


def _is_taken(name: str, file: Path) -> bool:
    """Whether the name is that of another module: a loaded one, or one of Python's or of an installed package."""
    if loaded_by_path(name):
        return False
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
        return origin is None or Path(origin).resolve() != file
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return False
    installed = [sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")]
    return not spec.has_location or any(Path(spec.origin).is_relative_to(folder) for folder in installed)


def _modules(package: str) -> dict[str, Path]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return {}
    if spec is None or spec.submodule_search_locations is None:
        return {}
    found = {}
    for module in pkgutil.iter_modules(spec.submodule_search_locations):
        folder = Path(module.module_finder.path)  # type: ignore[union-attr]
        if not module.name.startswith("_"):
            found[module.name] = folder / (f"{module.name}/__init__.py" if module.ispkg else f"{module.name}.py")
    return found


def _study_call(tree: ast.Module) -> ast.Call | None:
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "STUDY" for target in targets):
            value = statement.value  # type: ignore[attr-defined]
            return value if isinstance(value, ast.Call) else None
    return None


def _text(node: ast.expr) -> str:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
