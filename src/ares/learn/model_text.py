"""The text form of boosted trees: one dialect, canonical bytes, and a check before any parser.

LightGBM's loader checks lengths but not values: a crafted child index makes it read and write out
of bounds. So a text is parsed here first, strictly, and only what this module itself would write is
accepted. The `parameters` section keeps just what shaped the trees, sorted: equal models are equal
bytes, whatever the thread count, path or number of rounds that LightGBM was asked for.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ares.core.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_BYTES: Final = 64 * 2**20
MAX_TREES: Final = 20_000
MAX_LEAVES: Final = 65_536
MAX_FEATURES: Final = 10_000

_NUMBER: Final = r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:e[+-]?[0-9]{1,3})?"
_FLOATS: Final = re.compile(rf"(?:{_NUMBER}(?: {_NUMBER})*)?")
_INTS: Final = re.compile(r"(?:-?[0-9]{1,10}(?: -?[0-9]{1,10})*)?")
_RANGE: Final = re.compile(rf"none|\[({_NUMBER}):({_NUMBER})\]")
_PARAMETER: Final = re.compile(r"\[[a-z_0-9]{1,40}: [-+.a-z_0-9]{0,40}\]")
_TREE: Final = re.compile(r"Tree=([0-9]{1,6})\n")
_OBJECTIVES: Final = frozenset({"binary sigmoid:1", "regression"})
_DECISIONS: Final = frozenset({0, 2, 8, 10})  # numerical; default side; missing is none or NaN
_COUNT_LIMIT: Final = 2**31
_END: Final = "end of trees\n\n"


@dataclass(frozen=True)
class ModelShape:
    """What a checked text contains.

    Attributes:
        trees: Number of trees.
        gains: Total split gain of each feature.
    """

    trees: int
    gains: tuple[float, ...]


def canonical_text(text: str, parameters: Mapping[str, object]) -> str:
    """The trees of a text that LightGBM wrote, followed by `parameters`, sorted.

    Args:
        text: Output of `Booster.model_to_string` of a model without feature names of its own.
        parameters: What shaped the trees, under LightGBM's names.

    Raises:
        ArtifactError: `text` has no end of its trees.
    """
    trees, mark, _ = text.partition(_END)
    if not mark:
        raise ArtifactError("a model text must say where its trees end", value=text[-80:])
    lines = "".join(f"[{key}: {_plain(parameters[key])}]\n" for key in sorted(parameters))
    return f"{trees}{_END}parameters:\n{lines}\nend of parameters\n"


def check_model_text(text: str, n_features: int) -> ModelShape:
    """Refuse every text that is not a well-formed model of `n_features` features.

    Checked are the order and number of lines, the declared sizes, the lengths of all arrays, that
    numbers are finite, that features and leaves exist, that the children of each node form one
    tree without cycles, and that row counts add up. Linear in the length of the text.

    Args:
        text: The model, as `canonical_text` writes it.
        n_features: Number of columns that it may use.

    Returns:
        Number of trees and the split gain of each feature.

    Raises:
        ArtifactError: the first rule that is broken.
    """
    _require(len(text) <= MAX_BYTES, "a model text must be at most 64 MiB", len(text))
    _require(text.isascii(), "a model text must be ASCII", None)
    _require(1 <= n_features <= MAX_FEATURES, "a model has 1 to 10,000 features", n_features)
    body, mark, tail = text.partition(_END)
    _require(bool(mark), "a model text must say where its trees end", text[-80:])
    _check_tail(tail)
    start = body.find("Tree=0\n")
    _require(start > 0, "a model text must contain a first tree", text[:80])
    sizes = _check_header(body[:start], n_features)
    gains = [0.0] * n_features
    for index, (number, chunk) in enumerate(_chunks(body[start:], sizes)):
        _require(number == index, "trees must be numbered from 0 in order", number)
        _check_tree(chunk, index, gains)
    return ModelShape(len(sizes), tuple(gains))


def _plain(value: object) -> str:
    match value:
        case bool():
            return str(int(value))
        case float():
            return repr(value)
        case _:
            return str(value)


def _require(condition: bool, rule: str, value: object, where: str = "model text") -> None:
    if not condition:
        raise ArtifactError(
            rule,
            value=value,
            where=where,
            remedy="The model is damaged or foreign: train it again.",
        )


def _check_tail(tail: str) -> None:
    lines = tail.split("\n")
    framed = lines[0] == "parameters:" and lines[-3:] == ["", "end of parameters", ""]
    _require(framed and len(lines) <= 200, "the parameters section must be framed", tail[:80])
    inner = lines[1:-3]
    ok = all(_PARAMETER.fullmatch(line) for line in inner)
    _require(ok and inner == sorted(inner), "parameters must be plain and sorted", tail[:80])


def _check_header(header: str, n_features: int) -> list[int]:
    """Check everything before the first tree; the declared byte sizes of the trees."""
    lines = header.split("\n")
    _require(len(lines) == 12, "the header must have its ten lines", len(lines))
    fixed = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={n_features - 1}",
    ]
    _require(lines[:6] == fixed, "the header must be one class, v4 and all features", lines[:6])
    objective = lines[6].removeprefix("objective=")
    _require(objective in _OBJECTIVES, "the objective must be known", objective)
    names = " ".join(f"Column_{i}" for i in range(n_features))
    _require(lines[7] == f"feature_names={names}", "features must be numbered", lines[7])
    infos = lines[8].removeprefix("feature_infos=").split(" ")
    _require(len(infos) == n_features, "each feature must have one range", len(infos))
    for info in infos:
        match = _RANGE.fullmatch(info)
        _require(match is not None, "a range must be two numbers or none", info)
        if match and match[1] is not None:
            finite = math.isfinite(float(match[1])) and math.isfinite(float(match[2]))
            _require(finite, "a range must be finite", info)
    sizes = _ints(lines[9], "tree_sizes", None, "header")
    _require(lines[10:] == ["", ""], "the header must end where the trees begin", lines[10:])
    _require(1 <= len(sizes) <= MAX_TREES, "a model has 1 to 20,000 trees", len(sizes))
    return sizes


def _chunks(trees: str, sizes: list[int]) -> Iterator[tuple[int, str]]:
    """Number and text of each tree, at the declared sizes, which must tile the section exactly."""
    at = 0
    for size in sizes:
        match = _TREE.match(trees, at)
        _require(match is not None and size > 0, "trees must lie where the sizes say", size)
        if match:
            yield int(match[1]), trees[at + len(match[0]) : at + size]
        at += size
    _require(at == len(trees), "the sizes must cover all trees", at)


_NODE_FLOATS: Final = ("split_gain", "threshold", "internal_value", "internal_weight")
_KEYS: Final = (
    "num_leaves",
    "num_cat",
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
    "is_linear",
    "shrinkage",
)


def _check_tree(chunk: str, index: int, gains: list[float]) -> None:
    where = f"model text, tree {index}"
    lines = chunk.split("\n")
    _require(len(lines) == len(_KEYS) + 3, "a tree must have its sixteen lines", len(lines), where)
    _require(lines[-3:] == ["", "", ""], "a tree must end with two empty lines", lines[-3:], where)
    row = dict(zip(_KEYS, lines, strict=False))
    leaves = _ints(row["num_leaves"], "num_leaves", 1, where)[0]
    _require(1 <= leaves <= MAX_LEAVES, "a tree has 1 to 65,536 leaves", leaves, where)
    _require(row["num_cat"] == "num_cat=0", "splits must be numerical", row["num_cat"], where)
    _require(row["is_linear"] == "is_linear=0", "leaves must be constant", None, where)
    nodes = leaves - 1
    floats = {key: _floats(row[key], key, nodes, where) for key in _NODE_FLOATS}
    for key in ("leaf_value", "leaf_weight"):
        _floats(row[key], key, leaves, where)
    _require(_floats(row["shrinkage"], "shrinkage", 1, where)[0] > 0, "shrinks", None, where)
    decisions = set(_ints(row["decision_type"], "decision_type", nodes, where))
    _require(decisions <= _DECISIONS, "splits must be numerical", sorted(decisions), where)
    features = _ints(row["split_feature"], "split_feature", nodes, where)
    known = all(0 <= feature < len(gains) for feature in features)
    _require(known, "split features must exist", features[:8], where)
    leaf_count = _ints(row["leaf_count"], "leaf_count", leaves, where)
    node_count = _ints(row["internal_count"], "internal_count", nodes, where)
    left = _ints(row["left_child"], "left_child", nodes, where)
    right = _ints(row["right_child"], "right_child", nodes, where)
    _check_children(left, right, leaves, where)
    _check_counts(left, right, leaf_count, node_count, where)
    for feature, gain in zip(features, floats["split_gain"], strict=True):
        gains[feature] += gain


def _check_children(left: list[int], right: list[int], leaves: int, where: str) -> None:
    """Each leaf and each inner node but the root is the child of exactly one earlier node."""
    seen: set[int] = set()
    for node, pair in enumerate(zip(left, right, strict=True)):
        for child in pair:
            inside = node < child < leaves - 1 if child >= 0 else ~child < leaves
            _require(inside, "children must be later nodes or existing leaves", child, where)
            _require(child not in seen, "a child must have one parent", child, where)
            seen.add(child)
    # 2 (leaves - 1) distinct children in range are all inner nodes but the root, and all leaves.


def _check_counts(
    left: list[int], right: list[int], leaf: list[int], node: list[int], where: str
) -> None:
    small = all(0 <= count < _COUNT_LIMIT for count in (*leaf, *node))
    _require(small, "row counts must be 0 to 2^31 - 1", None, where)
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        total = sum(node[child] if child >= 0 else leaf[~child] for child in (a, b))
        _require(node[index] == total, "row counts must add up", node[index], where)


def _value(line: str, key: str, where: str) -> str:
    name, mark, value = line.partition("=")
    _require(name == key and bool(mark), f"the line of {key} must stand here", line[:80], where)
    return value


def _ints(line: str, key: str, count: int | None, where: str) -> list[int]:
    value = _value(line, key, where)
    _require(_INTS.fullmatch(value) is not None, f"{key} must be integers", value[:80], where)
    numbers = [int(token) for token in value.split(" ")] if value else []
    _require(count in {None, len(numbers)}, f"{key} must have its length", len(numbers), where)
    return numbers


def _floats(line: str, key: str, count: int, where: str) -> list[float]:
    value = _value(line, key, where)
    _require(_FLOATS.fullmatch(value) is not None, f"{key} must be numbers", value[:80], where)
    numbers = [float(token) for token in value.split(" ")] if value else []
    _require(len(numbers) == count, f"{key} must have its length", len(numbers), where)
    _require(all(map(math.isfinite, numbers)), f"{key} must be finite", value[:80], where)
    return numbers
