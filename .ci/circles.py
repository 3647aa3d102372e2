"""Fails when modules of a crate import each other in a circle, and prints the shortest one.

A module and its own children may: what the children have in common stands in the module. Not so a house, whose children
are services: it makes them, and none of them imports it. Nor may whole families (a module of the crate's root and all
below it) import each other, whichever of their files do."""

import re
import subprocess
import sys
from pathlib import Path

HOUSES = {"cli": {"broker", "policy", "upstream"}}

# The circles that there were when this check came: nothing is added to them, and what is opened is struck out here.
KNOWN = {
    "shim": [
        {"connect", "datagram"},
        {"pass", "session", "sys", "ticket"},
        {"epoll", "pending", "poll"},
        {
            *("epoll", "pending", "pending/adopted", "pending/elsewhere", "pending/slot", "pending/sweep"),
            *("pending/table", "poll"),
        },
    ],
}


class Crate:
    def __init__(self, directory, files):
        self.name = str(directory.parent)
        self.paths = {str(file.relative_to(directory))[: -len(".rs")]: file for file in files}
        self.roots = {"main", "lib"}
        texts = {module: code(path.read_text()) for module, path in self.paths.items()}
        # Modules of tests, in files of their own.
        for module, text in texts.items():
            for child in re.findall(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod (\w+);", text):
                self.paths.pop(self.join(self.base(module) + [child]), None)
        # By module, whom it imports: the line, and what.
        self.edges = {module: {} for module in self.paths}
        for module in self.paths:
            for line, path in paths_in(texts[module]):
                target, item = self.resolve(module, path)
                if target and target != module:
                    self.edges[module].setdefault(target, (line, item))

    def base(self, module):
        return [] if module in self.roots else module.split("/")

    def join(self, parts):
        return "/".join(parts)

    def resolve(self, module, path):
        """The module that a path leads to, and what of it; no module when it leads out of the crate."""
        base, parts = self.base(module), path.split("::")
        if parts[0] == "crate":
            base, parts = [], parts[1:]
        elif parts[0] in ("self", "super"):
            while parts and parts[0] in ("self", "super"):
                base = base[:-1] if parts[0] == "super" else base
                parts = parts[1:]
        elif self.join(base + parts[:1]) not in self.paths:
            return None, None
        while parts and self.join(base + parts[:1]) in self.paths:
            base, parts = base + parts[:1], parts[1:]
        return (self.join(base) if self.join(base) in self.paths else None), "::".join(parts)


def code(text):
    """The text without comments and without the tests, which come last; its lines stay where they are."""
    text = re.split(r"#\[cfg\(test\)\]\s*(?:pub(?:\([^)]*\))?\s+)?mod \w+ \{", text)[0]
    text = re.sub(r"//.*", "", text)
    return re.sub(r"pub\([^)]*\)", "pub", text)


def paths_in(text):
    """All paths of a file that may be modules', with their lines."""
    imported = {}
    for found in re.finditer(r"\buse\s+([^;]+);", text):
        line = text.count("\n", 0, found.start()) + 1
        for path in branches(re.sub(r"\s+", " ", found.group(1))):
            path, _, alias = path.partition(" as ")
            path = path.removesuffix("::self")
            imported[alias or path.split("::")[-1]] = path
            yield line, path
    rest = re.sub(r"\buse\s+[^;]+;", lambda found: "\n" * found.group().count("\n"), text)
    for found in re.finditer(r"(?<![\w:])([a-z]\w*)((?:::\w+)+)", rest):
        line = rest.count("\n", 0, found.start()) + 1
        yield line, imported.get(found.group(1), found.group(1)) + found.group(2)


def branches(tree, head=""):
    """The paths of a use tree."""
    tree = tree.strip()
    start = tree.find("{")
    if start < 0:
        return [head + tree] if tree else []
    head, found, depth, begin = head + tree[:start].replace(" ", ""), [], 0, start + 1
    for at, letter in enumerate(tree[start:], start):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if (letter == "," and depth == 1) or (letter == "}" and depth == 0):
            found += branches(tree[begin:at], head)
            begin = at + 1
    return found


def circles(edges):
    """The strongly connected components with more than one member (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for node in edges:
        if node not in index:
            visit(node)
    return found


def shortest(edges, members):
    """The shortest circle among the members, from one back to itself."""
    best = None
    for first in sorted(members):
        paths = [[first]]
        seen = {first}
        while paths and not (best and len(paths[0]) >= len(best)):
            path = paths.pop(0)
            if first in edges[path[-1]]:
                best = path + [first]
                break
            for other in edges[path[-1]]:
                if other in members and other not in seen:
                    seen.add(other)
                    paths.append(path + [other])
    return best


def is_family(members, houses):
    """Is it a module and its own children?"""
    head = min(members, key=len)
    return head not in houses and all(member == head or member.startswith(head + "/") for member in members)


def without_families(edges, members, houses):
    """The same graph with each family within it as one, since what is within a family is no fault."""

    def family(module):
        parts = module.split("/")
        heads = ("/".join(parts[:end]) for end in range(1, len(parts)))
        return next((head for head in heads if head in members and head not in houses), module)

    joined = {family(module): {} for module in members}
    for module in members:
        for other, edge in edges[module].items():
            if other in members and family(other) != family(module):
                joined[family(module)].setdefault(family(other), edge)
    return joined if len(joined) > 1 else edges


def shown(crate, edges, members, houses):
    edges = without_families(edges, members, houses)
    path = shortest(edges, members & edges.keys())
    lines = [f"{crate.name}: {len(members)} modules import each other: {' '.join(sorted(members))}"]
    for module, other in zip(path, path[1:]):
        importer, (line, item) = edges[module][other]
        lines.append(f"  {crate.paths[importer]}:{line} imports {imports(other, item)}")
    return "\n".join(lines)


def imports(module, item):
    return f"{item} of {module}" if item else module


def families(crate):
    """The edges between modules of the crate's root, each with all that is below it."""
    edges = {module.split("/")[0]: {} for module in crate.paths}
    for module, others in crate.edges.items():
        for other, imported in others.items():
            here, there = module.split("/")[0], other.split("/")[0]
            if here != there:
                edges[here].setdefault(there, (module, imported))
    return edges


def faults(crate):
    houses = HOUSES.get(crate.name, set())
    for module, others in crate.edges.items():
        for other, (line, item) in others.items():
            if other in houses and module.startswith(other + "/"):
                yield f"{crate.paths[module]}:{line} imports {imports(other, item)}, which makes it"
    known = KNOWN.get(crate.name, [])
    files = {
        module: {other: (module, imported) for other, imported in others.items()}
        for module, others in crate.edges.items()
    }
    found = []
    for edges in (files, families(crate)):
        for members in circles(edges):
            if members not in found and not is_family(members, houses):
                found.append(members)
                if not any(members <= circle for circle in known):
                    yield shown(crate, edges, members, houses)
    for circle in known:
        if circle not in found:
            yield f"{crate.name}: strike out what is no circle any more: {' '.join(sorted(circle))}"


files = subprocess.run(["git", "ls-files", "*/src/*.rs"], capture_output=True, text=True, check=True).stdout
sources = {}
for file in map(Path, files.split("\n")):
    if file.suffix:
        sources.setdefault(Path(*file.parts[: file.parts.index("src") + 1]), []).append(file)
wrong = [fault for directory, files in sources.items() for fault in faults(Crate(directory, files))]
if wrong:
    sys.exit("circles of imports (see CONTRIBUTING.md):\n" + "\n".join(wrong))
