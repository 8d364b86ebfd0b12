"""The trials of a search for others: one table, a Parquet file, an Optuna study."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from ares.backtest.space import Categorical, Int
from ares.core.errors import InputError
from ares.core.identity import fingerprint
from ares.kernels.blocks import MEASURES
from ares.search.blocks import BlockResults
from ares.search.points import point_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd
    import pyarrow as pa

    from ares.backtest.space import Parameter, ParameterSpace
    from ares.search.ledger import Ledger

Converter: TypeAlias = Callable[[Any], Any]
PARAMETER: Final = "param_"
"""Before the name of a parameter: its column."""
_PAGE: Final = 4096
_NUMBERS: Final = ("value", "error", "revealed", "audit")


def trials_table(ledger: Ledger) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The deterministic columns of all trials, and the volatile ones apart.

    `value` is -inf where a point has none; `error`, `revealed` and `audit` are NaN where they do
    not apply; `stage` is 0 for a full result; `blocks` is a digest of the block results.
    """
    return tables_of(*read_columns(ledger))


def read_columns(ledger: Ledger) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """All trials as columns, and their parameters as columns, None where a point lacks one.

    A data frame would make a number of a truth value and NaN of None.
    """
    columns: dict[str, list[Any]] = {name: [] for name in (*_PLACE, *_DESCRIBED, *_VOLATILE)}
    params: dict[str, list[Any]] = {}
    count = 0
    for page in map(_described, ledger.pages()):
        for name, values in columns.items():
            values.extend(page[name])
        points = page["params"]
        for name in {name for point in points for name in point} - params.keys():
            params[name] = [None] * count
        for name, values in params.items():
            values.extend(point.get(name) for point in points)
        count += len(points)
    return columns, params


def tables_of(
    columns: dict[str, list[Any]], params: dict[str, list[Any]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of `trials_table` from what `read_columns` read."""
    import pandas as pd

    table = pd.DataFrame(
        {
            **{name: columns[name] for name in _PLACE},
            **{f"{PARAMETER}{name}": params[name] for name in sorted(params)},
            **{name: columns[name] for name in _DESCRIBED},
        }
    )
    return table, pd.DataFrame({name: columns[name] for name in ("number", *_VOLATILE)})


_PLACE: Final = ("number", "generation", "phase")
_VOLATILE: Final = ("source", "seconds")
_DESCRIBED: Final = (
    "status", "stage", "value", "error", "revealed", "audit", "outcome", "days", "n_trades",
    "blocks",
)  # fmt: skip


def _described(page: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns of a generation in the words of the table."""
    numbers = {
        name: [math.nan if value is None else value for value in page[name]] for name in _NUMBERS
    }
    stages = [0 if stage is None else stage for stage in page["stage"]]
    return (
        page
        | numbers
        | {
            "params": [point_of(packed) for packed in page["params"]],
            "status": list(map(_status, stages, numbers["value"], numbers["audit"])),
            "stage": stages,
            "blocks": page["content"],
        }
    )


def _status(stage: int, value: float, audit: float) -> str:
    if stage:
        return "stopped" if math.isnan(audit) else "audited"
    return "full" if math.isfinite(value) else "failed"


def table_digest(table: pd.DataFrame) -> str:
    """Digest of a trials table: column names, types of the values, values."""
    return fingerprint([(str(name), _content(table[name])) for name in table.columns])


def _content(column: pd.Series[Any]) -> Any:
    array = column.to_numpy()
    if array.dtype.kind in "ifb":
        return array
    return json.dumps(column.tolist())


def export_parquet(ledger: Ledger | str | Path, path: str | Path) -> int:
    """Write all trials with their block results to a Parquet file, a page at a time.

    The columns are those of `trials_table` without the digest, then `source` and `seconds`, then
    one list per measure of the blocks.

    Args:
        ledger: An open ledger, or the file of one.
        path: The Parquet file.

    Returns:
        How many trials were written.

    Raises:
        InputError: there is no such ledger.
        StoreError: the ledger cannot be read, or the file not be written.
    """
    from ares.search.ledger import Ledger
    from ares.store.atomic import write_atomic

    if not isinstance(ledger, Ledger):
        if not Path(ledger).is_file():
            raise InputError("there is no such trial ledger", value=str(ledger))
        with Ledger(ledger, None) as opened:
            return export_parquet(opened, path)
    types = _parameter_types(ledger)
    write_atomic(path, lambda stream: _write_pages(ledger, types, stream))
    return len(ledger)


def _write_pages(ledger: Ledger, types: dict[str, Converter], stream: BinaryIO) -> None:
    import pyarrow.parquet as pq

    schema = _schema(types)
    with pq.ParquetWriter(stream, schema) as writer:
        for batch in _batches(
            _record_batch(page, types, schema) for page in ledger.pages(blocks=True)
        ):
            writer.write_table(batch)


def _batches(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of a few thousand rows from generations of any size."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for part in parts:
        waiting.append(part)
        if sum(len(one) for one in waiting) >= _PAGE:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _parameter_types(ledger: Ledger) -> dict[str, Converter]:
    """What makes one type of each parameter's values."""
    kinds: dict[str, set[type]] = {}
    for page in ledger.pages():
        for packed in page["params"]:
            for name, value in point_of(packed).items():
                kinds.setdefault(name, set()).add(_kind(value))
    return {name: _converter(found) for name, found in sorted(kinds.items())}


def _kind(value: Any) -> type:
    long = type(value) is int and not -(2**63) <= value < 2**63
    return object if long else type(value)


def _converter(kinds: set[type]) -> Converter:
    """Numbers, truth values and text as they are; what is mixed as JSON, which tells 1 from "1"."""
    kinds = kinds - {type(None)}
    if len(kinds) == 1 and kinds <= {int, float, bool, str}:
        return next(iter(kinds))
    return float if kinds == {int, float} else json.dumps


def storable(trials: pd.DataFrame) -> pd.DataFrame:
    """A trials table as files can hold it: parameters of mixed types as JSON text."""
    stored = trials.copy()
    for name in trials.columns:
        column = trials[name]
        if column.dtype == object and name.startswith(PARAMETER):
            values = column.tolist()
            kind = _converter(set(map(_kind, values)))
            stored[name] = [None if value is None else kind(value) for value in values]
    return stored


def _schema(types: dict[str, Converter]) -> pa.Schema:
    import pyarrow as pa

    arrow: dict[Any, Any] = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    whole, number, text = pa.int64(), pa.float64(), pa.string()
    return pa.schema(
        [
            ("number", whole),
            ("generation", whole),
            ("phase", text),
            *((f"{PARAMETER}{name}", arrow.get(kind, text)) for name, kind in types.items()),
            ("status", text),
            ("stage", whole),
            *((name, number) for name in _NUMBERS),
            ("outcome", text),
            ("days", whole),
            ("n_trades", whole),
            ("source", text),
            ("seconds", number),
            ("block_days", pa.list_(whole)),
            *((f"block_{name}", pa.list_(number)) for name in MEASURES),
            ("block_trades", pa.list_(whole)),
        ]
    )


def _record_batch(
    page: dict[str, list[Any]], types: dict[str, Converter], schema: pa.Schema
) -> pa.RecordBatch:
    import pyarrow as pa

    blocks = [BlockResults.from_bytes(body) for body in page["blocks"]]
    columns = _described(page)
    for name, kind in types.items():
        values = [point.get(name) for point in columns["params"]]
        columns[f"{PARAMETER}{name}"] = [None if v is None else kind(v) for v in values]
    columns["block_days"] = [one.n for one in blocks]
    columns["block_trades"] = [one.trades for one in blocks]
    for at, name in enumerate(MEASURES):
        columns[f"block_{name}"] = [one.measures[at] for one in blocks]
    return pa.RecordBatch.from_pydict({n: columns[n] for n in schema.names}, schema=schema)


def to_optuna(
    trials: pd.DataFrame,
    space: ParameterSpace,
    *,
    storage: Any = None,
    name: str | None = None,
) -> Any:
    """The trials of a search as an Optuna study, for its plots and its dashboard.

    Full trials are complete, stopped ones pruned with their revealed value at their stage, and
    those without a score failed.

    Args:
        trials: `SearchResult.trials`, or a run's `trials.parquet`.
        space: What was searched.
        storage: As in `optuna.create_study`; None keeps the study in memory.
        name: Name of the study.

    Raises:
        InputError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "this export needs Optuna", remedy="pip install 'ares-trainer[optuna]'"
        ) from error
    study = optuna.create_study(direction="maximize", storage=storage, study_name=name)
    distributions = {n: _distribution(p) for n, p in space.parameters.items()}
    study.add_trials(_frozen(trials, distributions))
    return study


def _distribution(parameter: Parameter) -> Any:
    from optuna import distributions as known

    if isinstance(parameter, Categorical):
        return known.CategoricalDistribution(parameter.choices)
    kind = known.IntDistribution if isinstance(parameter, Int) else known.FloatDistribution
    return kind(parameter.low, parameter.high, log=parameter.log)


def _frozen(trials: pd.DataFrame, distributions: dict[str, Any]) -> Iterable[Any]:
    from optuna.trial import TrialState, create_trial

    states = {
        "full": TrialState.COMPLETE,
        "failed": TrialState.FAIL,
        "stopped": TrialState.PRUNED,
        "audited": TrialState.PRUNED,
    }
    for row in _records(trials):
        state = states[row["status"]]
        stopped = state is TrialState.PRUNED
        yield create_trial(
            state=state,
            value=row["value"] if state is TrialState.COMPLETE else None,
            params={n: row[f"{PARAMETER}{n}"] for n in distributions},
            distributions=distributions,
            intermediate_values={row["stage"]: row["revealed"]} if stopped else {},
            user_attrs={n: row[n] for n in ("phase", "generation", "outcome", "n_trades")},
        )


def _records(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    columns = {str(name): table[name].tolist() for name in table.columns}
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
