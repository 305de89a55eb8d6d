"""What docstrings say is what the code does: arguments, returns and raises of every public name."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import symfield

SOURCE = Path(symfield.__file__).parent
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples|References|Note|Notes|Warns):$")
ENTRY = re.compile(r"^    (\*{0,2}[\w.]+)(?: \([^)]*\))?:")

#: Rooms above the library: their functions are called by a program, not by hand.
PROGRAMS = ("symfield.cli", "symfield.experiments", "symfield.studies")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Documented:
    """A function or class of the public surface: its path, its syntax tree, the thing itself, the class around it."""

    path: str
    node: Function | ast.ClassDef
    value: object = None
    owner: ast.ClassDef | None = None

    def __str__(self) -> str:
        return self.path


def sections(docstring: str) -> dict[str, list[str]]:
    """Lines of each Google section of a docstring, unindented; the text before the first section under ''."""
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in docstring.splitlines():
        if match := SECTION.match(line):
            current = match[1]
            found[current] = []
        else:
            found[current].append(line)
    return found


def entries(lines: list[str]) -> list[str]:
    return [match[1].lstrip("*") for line in lines if (match := ENTRY.match(line))]


def decorators(node: Function | ast.ClassDef) -> set[str]:
    names = set()
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        names.add(target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""))
    return names


def is_property(node: Function) -> bool:
    return not decorators(node).isdisjoint({"property", "cached_property"})


def parameters(node: Function, method: bool) -> list[str]:
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    if method and "staticmethod" not in decorators(node):
        names = names[1:]
    if arguments.vararg:
        names.append(arguments.vararg.arg)
    names += [a.arg for a in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append(arguments.kwarg.arg)
    return [name for name in names if not name.startswith("_")]


def constructor(value: type) -> list[str]:
    """Names that a class is built from."""
    try:
        names = list(inspect.signature(value).parameters)
    except ValueError:  # built in
        return []
    return [] if names == ["args", "kwargs"] else [name for name in names if not name.startswith("_")]


def built_from(value: type) -> list[str]:
    """Names that the docstring of a class documents as arguments, or that of the class it takes its fields from."""
    for cls in value.__mro__:
        found = sections(inspect.cleandoc(cls.__doc__ or ""))
        if documented := entries(found.get("Args", [])) or (cls is not value and entries(found.get("Attributes", []))):
            return documented
    return []


def attributes(node: ast.ClassDef) -> set[str]:
    """Names that a class body defines or sets on self."""
    names = {member.name for member in node.body if isinstance(member, Function)}
    for current in ast.walk(node):
        if isinstance(current, ast.AnnAssign) and isinstance(current.target, ast.Name):
            names.add(current.target.id)
        if isinstance(current, ast.Attribute) and isinstance(current.ctx, ast.Store):
            names.add(current.attr)
    return names


def own_level(node: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions and classes inside it."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        current = waiting.pop()
        yield current
        if not isinstance(current, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(current))


def raised(node: Function) -> set[str]:
    names = set()
    for current in own_level(node):
        if isinstance(current, ast.Raise) and current.exc is not None:
            call = current.exc.func if isinstance(current.exc, ast.Call) else current.exc
            name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
            if name[:1].isupper():
                names.add(name)
    return names


def returns_value(node: Function) -> bool:
    return node.returns is not None and ast.unparse(node.returns) not in {"None", "NoReturn", "Never"}


def complaints(item: Documented) -> list[str]:
    """Everything in which a docstring and its code differ; a method may leave sections out, but not get them wrong."""
    docstring = ast.get_docstring(item.node)
    if not docstring:
        return ["has no docstring"]
    found, wrong = sections(docstring), []
    if not docstring.splitlines()[0].rstrip().endswith((".", ":")):
        wrong.append("the first line is not one sentence that ends with a full stop")
    if isinstance(item.node, ast.ClassDef):
        if "Attributes" in found and "Args" not in found:  # a value that users read rather than build
            if unknown := set(entries(found["Attributes"])) - attributes(item.node):
                wrong.append(f"has no {sorted(unknown)}, which its docstring documents")
        elif (documented := built_from(item.value)) != (built := constructor(item.value)):
            wrong.append(f"is built from {built}, its docstring documents {documented}")
        return wrong
    takes = [] if is_property(item.node) else parameters(item.node, method=item.owner is not None)
    documented = entries(found.get("Args", []))
    if documented != takes and (documented or item.owner is None):
        wrong.append(f"takes {takes}, its docstring documents {documented}")
    yields = any(isinstance(current, ast.Yield | ast.YieldFrom) for current in own_level(item.node))
    streams = yields or (
        item.node.returns and re.match(r"Iterator|Iterable|Generator\[", ast.unparse(item.node.returns))
    )
    section = "Yields" if streams and "Yields" in found else "Returns"
    if returns_value(item.node) and item.owner is None and not any(line.strip() for line in found.get(section, [])):
        wrong.append(f"has no {'Yields' if yields else 'Returns'} section")
    if not returns_value(item.node) and section in found:
        wrong.append(f"has a {section} section and returns nothing")
    if missing := raised(item.node) - set(entries(found.get("Raises", []))):
        wrong.append(f"raises {sorted(missing)} without saying so")
    return wrong


def rooms() -> list[str]:
    """The modules whose `__all__` is the public surface: every room, and every study."""
    inside = [
        *pkgutil.iter_modules([str(SOURCE)], "symfield."),
        *pkgutil.iter_modules([str(SOURCE / "studies")], "symfield.studies."),
    ]
    return sorted(info.name for info in inside if not info.name.rsplit(".", 1)[1].startswith("_"))


def public(room: str) -> Iterator[Documented]:
    """Functions and classes in a room's `__all__`, and their public methods."""
    module = importlib.import_module(room)
    for name in listed(module):
        value = getattr(module, name)
        home, qualified = str(getattr(value, "__module__", "")), getattr(value, "__qualname__", "")
        node = definitions(home).get(qualified) if home.startswith("symfield") else None
        if node is not None:
            yield Documented(f"{home}.{qualified}", node, value)
            if isinstance(node, ast.ClassDef):
                yield from methods(f"{home}.{qualified}", node, value)


def listed(module: ModuleType) -> list[str]:
    """A room's public names; a package that only holds modules lists none."""
    names = getattr(module, "__all__", [])
    assert names or hasattr(module, "__path__"), f"{module.__name__} lists no public names in __all__"
    return list(names)


def methods(path: str, node: ast.ClassDef, value: type) -> Iterator[Documented]:
    """Public methods of a class; one without a docstring may inherit it."""
    for member in node.body:
        if not isinstance(member, Function) or (member.name.startswith("_") and member.name != "__call__"):
            continue
        if decorators(member) & {"overload", "setter"}:
            continue
        inherited = any(
            member.name in {**vars(base), **vars(base).get("__annotations__", {})} for base in value.__mro__[1:]
        )
        if ast.get_docstring(member) is None and inherited:
            continue
        yield Documented(f"{path}.{member.name}", member, None, node)


def definitions(module: str) -> dict[str, Function | ast.ClassDef]:
    """Functions and classes at a module's top level, by name."""
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, Function | ast.ClassDef)}


@pytest.mark.parametrize("room", rooms())
def test_docstrings_say_what_the_code_does(room):
    wrong = [f"{item.path} {complaint}" for item in public(room) for complaint in complaints(item)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", rooms())
def test_every_room_explains_itself_and_lists_names_that_exist(room):
    module = importlib.import_module(room)
    assert (module.__doc__ or "").strip(), f"{room} has no docstring"
    assert [name for name in listed(module) if not hasattr(module, name)] == []
    assert len(set(listed(module))) == len(listed(module))


@pytest.mark.parametrize("room", [room for room in rooms() if not room.startswith(PROGRAMS)])
def test_public_functions_of_the_library_show_an_example_that_runs(room):
    functions = [item for item in public(room) if isinstance(item.node, Function) and item.owner is None]
    assert [item.path for item in functions if ">>> " not in (ast.get_docstring(item.node) or "")] == []


GOOD = '''
def f(x, *, n=1):
    """One sentence.

    Args:
        x: a number.
        n: another one,
            on two lines.

    Returns:
        The sum.

    Raises:
        ValueError: if it does not work.
    """
    if x:
        raise ValueError("no")
    return x + n
'''


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("", ""), None),
        (("n: another", "m: another"), "takes ['x', 'n']"),
        (("        x: a number.\n", ""), "takes ['x', 'n']"),
        (("def f(x,", "def f(x, y,"), "takes ['x', 'y', 'n']"),
        (("    Returns:\n        The sum.\n", ""), "has no Returns section"),
        (("ValueError: if", "KeyError: if"), "raises ['ValueError']"),
        (("One sentence.", "One sentence"), "full stop"),
        (("-> int", "-> None"), "returns nothing"),
    ],
)
def test_the_lint_itself_finds_each_kind_of_difference(change, complaint):
    source = GOOD.replace("n=1):", "n=1) -> int:").replace(*change)
    found = complaints(Documented("f", ast.parse(source).body[0]))
    assert (found == []) if complaint is None else any(complaint in text for text in found)
