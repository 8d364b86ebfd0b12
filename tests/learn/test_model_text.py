"""A model text is checked completely before LightGBM parses it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.core.errors import ArtifactError
from ares.learn.boosting import BoostedTrees
from ares.learn.incremental import IncrementalTrainer
from ares.learn.model_text import MAX_BYTES, canonical_text, check_model_text


def make_text(trees: int = 3, leaves: int = 5) -> str:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3))
    y = (X[:, 0] - X[:, 2] + rng.normal(size=400) > 0).astype(float)
    params = {"trees": trees, "num_leaves": leaves}
    return IncrementalTrainer().train_incrementally(params, X, y).text


TEXT = make_text()


def with_true_sizes(text: str) -> str:
    """Make the declared tree sizes right again, so that only the intended rule is broken."""
    start, end = text.find("Tree=0\n"), text.find("end of trees")
    if start < 0 or end < start:
        return text
    chunks = [c for c in re.split(r"(?=Tree=\d+\n)", text[start:end]) if c]
    sizes = " ".join(str(len(chunk)) for chunk in chunks)
    return re.sub(r"tree_sizes=.*", f"tree_sizes={sizes}", text, count=1)


def crafted(pattern: str, replacement: str) -> str:
    changed, hits = re.subn(pattern, replacement, TEXT, count=1, flags=re.MULTILINE)
    assert hits == 1
    assert changed != TEXT
    return with_true_sizes(changed)


def test_a_trained_model_passes_and_says_what_it_holds() -> None:
    shape = check_model_text(TEXT, 3)
    assert shape.trees == 3
    gains = [0.0, 0.0, 0.0]
    for features, values in re.findall(r"split_feature=(.*)\nsplit_gain=(.*)\n", TEXT):
        for feature, gain in zip(features.split(), values.split(), strict=True):
            gains[int(feature)] += float(gain)
    assert list(shape.gains) == pytest.approx(gains, rel=1e-12)


def test_a_model_that_found_no_split_passes() -> None:
    X, y = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 2
    model = IncrementalTrainer({"min_leaf": 45}).train_incrementally({"trees": 5}, X, y)
    assert model.num_trees() == 1
    assert model.predict(X) == pytest.approx(np.full(50, 0.5))


@pytest.mark.parametrize(
    ("pattern", "replacement", "rule"),
    [
        (r"^left_child=\S+", "left_child=99999", "later nodes or existing leaves"),
        (r"^left_child=\S+", "left_child=-99999", "later nodes or existing leaves"),
        (r"^right_child=(.*) \S+$", r"right_child=\1 -6", "later nodes or existing leaves"),
        (r"^left_child=\S+", "left_child=0", "later nodes or existing leaves"),
        (r"^left_child=(\S+) (\S+)", r"left_child=\1 \1", "children|parent|later nodes"),
        (r"^split_feature=\S+", "split_feature=3", "split features must exist"),
        (r"^split_feature=\S+", "split_feature=-1", "split features must exist"),
        (r"^split_feature=\S+ ", "split_feature=", "split_feature must have its length"),
        (r"^leaf_count=\S+", "leaf_count=100000", "row counts must add up"),
        (r"^leaf_count=\S+", "leaf_count=-1", "row counts must be"),
        (r"^leaf_value=\S+", "leaf_value=nan", "leaf_value must be numbers"),
        (r"^leaf_value=\S+", "leaf_value=inf", "leaf_value must be numbers"),
        (r"^leaf_value=\S+", "leaf_value=1e999", "leaf_value must be finite"),
        (r"^threshold=\S+", "threshold=1_0", "threshold must be numbers"),
        (r"^threshold=\S+", "threshold=-1e999", "threshold must be finite"),
        (r"^num_leaves=\d+", "num_leaves=2147483647", "1 to 65,536 leaves"),
        (r"^num_leaves=\d+", "num_leaves=0", "1 to 65,536 leaves"),
        (r"^num_leaves=\d+", "num_leaves=6", "must have its length"),
        (r"^num_leaves=\d+", "num_leaves=99999999999999", "num_leaves must be integers"),
        (r"^num_cat=0", "num_cat=7", "splits must be numerical"),
        (r"^decision_type=\d+", "decision_type=1", "splits must be numerical"),
        (r"^is_linear=0", "is_linear=1", "leaves must be constant"),
        (r"^shrinkage=\S+", "shrinkage=0", "shrinks"),
        (r"^Tree=1", "Tree=7", "numbered from 0"),
        (r"^num_class=1", "num_class=2", "header"),
        (r"^num_tree_per_iteration=1", "num_tree_per_iteration=3", "header"),
        (r"^max_feature_idx=2", "max_feature_idx=70000", "header"),
        (r"^objective=.*", "objective=custom", "objective must be known"),
        (r"^feature_names=.*", "feature_names=a b c", "features must be numbered"),
        (r"^feature_infos=\S+", "feature_infos=[0:1", "two numbers or none"),
        (r"^feature_infos=\S+ ", "feature_infos=", "each feature must have one range"),
        (r"^\[num_leaves: 5\]", "[data: /home/someone/file.csv]", "plain and sorted"),
        (r"^end of trees\n", "", "where its trees end"),
        (r"end of parameters\n", "end of parameters\nmore\n", "must be framed"),
        (r"^Tree=0", "Tree=\u0660", "ASCII"),  # an Arabic zero, which int() would read
    ],
)
def test_a_crafted_text_is_refused(pattern: str, replacement: str, rule: str) -> None:
    with pytest.raises(ArtifactError, match=rule):
        check_model_text(crafted(pattern, replacement), 3)


@pytest.mark.parametrize("sizes", ["1 2 3", "0 0 0", "-5 10 20", "99999999 1 1", "600", ""])
def test_declared_sizes_must_be_the_real_ones(sizes: str) -> None:
    text = re.sub(r"tree_sizes=.*", f"tree_sizes={sizes}", TEXT)
    with pytest.raises(ArtifactError):
        check_model_text(text, 3)


def test_size_caps() -> None:
    with pytest.raises(ArtifactError, match="64 MiB"):
        check_model_text("x" * (MAX_BYTES + 1), 3)
    with pytest.raises(ArtifactError, match="10,000 features"):
        check_model_text(TEXT, 10_001)
    with pytest.raises(ArtifactError, match="header"):
        check_model_text(TEXT, 4)


def test_a_cycle_is_refused() -> None:
    # An inner node that is its own child: an unchecked walk never ends.
    tree = re.search(r"left_child=(.*)\nright_child=(.*)\n", TEXT)
    assert tree is not None
    left = tree[1].split()
    left[1] = "1"
    with pytest.raises(ArtifactError, match="later nodes"):
        check_model_text(crafted(re.escape(tree[1]), " ".join(left)), 3)


def test_the_parameters_section_is_canonical() -> None:
    noisy = TEXT.partition("parameters:")[0] + "parameters:\n[num_threads: 8]\n[data: /tmp/x]\n"
    other = noisy.replace("num_threads: 8", "num_threads: 2")
    one = canonical_text(noisy, {"num_leaves": 5, "extra_trees": False, "eta": 0.1})
    two = canonical_text(other, {"eta": 0.1, "extra_trees": 0, "num_leaves": 5})
    assert one == two
    assert "num_threads" not in one
    assert "/tmp" not in one
    check_model_text(one, 3)


def test_a_refused_text_never_reaches_the_loader() -> None:
    model = BoostedTrees(crafted(r"^left_child=\S+", "left_child=99999"), ("a", "b", "c"))
    with pytest.raises(ArtifactError):
        model.predict(np.zeros((2, 3)))


CHILD = """
import json, sys
import numpy as np
from ares.core.errors import ArtifactError
from ares.learn.boosting import BoostedTrees
rows = np.array([[0.0, 0.0, 0.0], [9.0, -9.0, 9.0], [-1.0, 1.0, 1e300]])
for line in sys.stdin:
    try:
        BoostedTrees(json.loads(line), ("a", "b", "c")).predict(rows)
        print("loaded", flush=True)
    except ArtifactError:
        print("refused", flush=True)
"""


@pytest.fixture(scope="module")
def child():
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


def ask(child, text: str) -> str:
    child.stdin.write(json.dumps(text) + "\n")
    child.stdin.flush()
    while (line := child.stdout.readline().strip()).startswith("[LightGBM]"):
        pass  # it warns on the same stream
    return line


NUMBERS = [m.span() for m in re.finditer(r"-?\d+(\.\d+)?(e-?\d+)?", TEXT)]
EXTREMES = ["0", "-1", "1", "4", "5", "-5", "-6", "99999", "-99999", "2147483647", "-2147483648"]
EXTREMES += ["4294967296", "1e308", "-1e308", "1e999", "nan", "", "7 7", "9" * 30, "0.5"]


@st.composite
def mutations(draw) -> str:
    text = TEXT
    kind = draw(st.sampled_from(["number", "number", "line", "byte", "cut"]))
    if kind == "number":
        for _ in range(draw(st.integers(1, 2))):
            start, end = draw(st.sampled_from(NUMBERS))
            text = text[:start] + draw(st.sampled_from(EXTREMES)) + text[end:]
    elif kind == "line":
        lines = text.split("\n")
        a, b = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        lines[a] = draw(st.sampled_from([lines[b], "", lines[a] + " 1", lines[a][:-1]]))
        text = "\n".join(lines)
    elif kind == "byte":
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + chr(draw(st.integers(0, 255))) + text[at + 1 :]
    else:
        text = text[: draw(st.integers(0, len(text)))]
    return with_true_sizes(text) if draw(st.booleans()) else text


def test_the_child_process_loads_the_good_text(child) -> None:
    assert ask(child, TEXT) == "loaded"


@settings(max_examples=300)
@given(text=mutations())
def test_no_mutation_brings_the_process_down(child, text: str) -> None:
    assert ask(child, text) in {"loaded", "refused"}
    assert child.poll() is None
