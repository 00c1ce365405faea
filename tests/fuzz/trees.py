"""Damage to JSON and YAML: a tree of which a part is deleted, repeated or replaced, and texts that parsers choke on."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.trial import SENTINEL

NUMBERS = (0, -1, 1, 2, 7, 255, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, 1.5)
SPECIAL = (float("nan"), float("inf"), float("-inf"))
TEXTS = (
    *("", " ", "a", "nan", "null", "x" * 10_000, "𝔘ñïcødé \u202e\u0000", "a\nb", "\ud800", "../../../../etc/passwd"),
    *(
        "/dev/zero",
        "/",
        ".",
        "~",
        "${HOME}",
        "$UNSET_VARIABLE",
        "@JOB/FILE",
        f"$(touch {SENTINEL})",
        "%s%n",
        "os.system",
    ),
    *(
        "torch.nn.Linear",
        "nothing.py:Net",
        "-1",
        "1e999",
        "true",
        "C:\\scans",
        "pyro_dwp.files.write_json",
        "builtins.exec",
    ),
)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": {}},
    {"class": "gaussian"},
    [1, 2, 3],
    {"1": 1},
)
HOSTILE = (
    f"!!python/object/apply:os.system ['touch {SENTINEL}']",
    f"!!python/object/new:os.system ['touch {SENTINEL}']",
    f'!!python/object/apply:subprocess.getoutput ["touch {SENTINEL}"]',
    "!!python/name:os.system",
    "!!python/module:antigravity",
    "!!python/tuple [1, 2]",
    "!unknown {a: 1}",
    "!!binary /w==",
    "!!set {a, b}",
    "!!timestamp 2026-01-01",
    "!!float abc",
    "!!int 0x",
    "!!int ''",
    "!!bool 3",
    "!!map [1]",
    "!!omap [a: 1, a: 2]",
    "!!pairs [a]",
    "2026-02-30",
    "0o99",
    "1" * 5000,
    "1e" + "9" * 400,
    "[" * 3000,
    "{" * 3000,
    "{a: " * 30 + "1" + "}" * 30,
    "[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]",
    "&a [*a]",
    "*nothing",
    "{? [1, 2] : 3}",
    "{? {a: 1} : 3}",
    "{1: 2, 1: 3}",
    "'unfinished",
    "\tvalue",
    "|\n  block",
    '"\\ud800"',
    '"\\x00"',
    "- - - - -",
    "? ",
    "@JOB/FILE",
    "`",
    "%",
)
LAUGHS = "a: &a [l, l, l, l, l, l, l, l, l]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
WHOLE = (
    LAUGHS,
    "%YAML 9.9\n---\na: 1\n",
    "---\na: 1\n---\nb: 2\n",
    "\ufeffa: 1\n",
    "a: 1\n\0\n",
    "- a\n- b\n",
    "text",
    "1",
    "",
    "# nothing but a remark\n",
    "a: 1\n a: 2\n",
    "x" * 3_000_000,
    "a: 1\n" * 10_000,
    "<<: {a: 1}\n",
    "? a\n",
    "\x85\u2028: 1\n",
    "x: " + "[" * 3000,
    "k" * 5000 + ": 1\n",
    "".join(f"k{number}: 1\n" for number in range(3000)),
)


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every node below the top."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def value(draw: Random, nan: bool = True) -> Any:
    """Return something extreme."""
    pool = draw.choice((NUMBERS, NUMBERS, SPECIAL if nan else NUMBERS, TEXTS, OTHERS))
    return copy.deepcopy(draw.choice(pool))


def mutate_tree(tree: Any, draw: Random) -> tuple[Any, str]:
    """Return a damaged copy of a tree, and what was done."""
    changed, found = copy.deepcopy(tree), list(places(tree))
    if not found:
        return value(draw), "replaced whole"
    path = draw.choice(found)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    key, where = path[-1], ".".join(map(str, path))
    other: Any = changed
    for step in draw.choice(found):
        other = other[step]
    way = draw.choice(
        ("replace", "replace", "replace", "replace", "delete", "nest", "copy", "add", "rename", "deep", "scale")
    )
    if way == "delete":
        del parent[key]
    elif way == "nest":
        parent[key] = draw.choice(([parent[key]], {"a": parent[key]}, {"class": parent[key]}))
    elif way == "copy":
        parent[key] = copy.deepcopy(other)
    elif way == "add" and isinstance(parent, list):
        parent.insert(draw.randrange(len(parent) + 1), draw.choice((copy.deepcopy(parent[key]), value(draw))))
    elif way in ("add", "rename") and isinstance(parent, dict):
        name = draw.choice(
            (f"{key}_", f"{key}".upper(), "", "unknown", "class", "__class__", "x" * 500, "ü\n", 3, None)
        )
        parent[name] = parent.pop(key) if way == "rename" else value(draw)
    elif way == "deep":
        nested: Any = 1
        for _ in range(draw.choice((5, 25, 300))):
            nested = {"a": nested} if draw.random() < 0.5 else [nested]
        parent[key] = nested
    elif way == "scale" and isinstance(parent[key], int | float):
        parent[key] = parent[key] * draw.choice((-1, 0, 1.5, 10**6, 10**12))
    else:
        parent[key] = value(draw)
        return changed, f"{where} = {parent[key]!r}"[:200]
    return changed, f"{way} {where}"


def damage_json(path: Path, draw: Random) -> str:
    """Damage the tree that a JSON file holds, or its text."""
    tree, done = mutate_tree(json.loads(path.read_text(encoding="utf-8")), draw)
    text = json.dumps(tree)
    if draw.random() < 0.1:
        done, text = draw.choice((("NaN everywhere", _all_nan(text)), ("cut", text[:-1]), ("deep", '{"a":' * 5000)))
    path.write_text(text, encoding="utf-8")
    return f"{path.name}: {done}"


def _all_nan(text: str) -> str:
    return json.dumps(json.loads(text, parse_float=lambda _: float("nan"), parse_int=lambda _: float("nan")))


def damage_yaml(path: Path, draw: Random) -> str:
    """Damage the tree that a YAML file holds, or its text."""
    if draw.random() < 0.15:
        text = draw.choice(WHOLE)
        path.write_text(text, encoding="utf-8")
        return f"{path.name}: {text[:40]!r} instead"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    if draw.random() < 0.3:
        changed, done = _with_marker(tree, draw)
        text, hostile = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True), draw.choice(HOSTILE)
        path.write_text(text.replace("MARKER", hostile, 1), encoding="utf-8")
        return f"{path.name}: {done} = {hostile[:60]}"
    changed, done = mutate_tree(tree, draw)
    path.write_text(
        yaml.safe_dump(changed, sort_keys=False, allow_unicode=draw.random() < 0.5), "utf-8", "surrogatepass"
    )
    return f"{path.name}: {done}"


def _with_marker(tree: Any, draw: Random) -> tuple[Any, str]:
    changed, path = copy.deepcopy(tree), draw.choice(list(places(tree)))
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = "MARKER"
    return changed, ".".join(map(str, path))
