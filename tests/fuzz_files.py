"""Mutates files of bars and compares every reader of Ares with the naive one.

    python fuzz_files.py OUTPUT FIRST COUNT [SHARED]

Runs the cases FIRST to FIRST + COUNT - 1, each fully given by its number, and appends one line of
JSON per case to OUTPUT: before it is run its number, after it the outcome. So a crash, a hang or
an exception of another kind names its case. SHARED is the folder of real files.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq

import naive_files
from ares.backtest.streaming import StreamingDataProcessor
from ares.core.errors import AresError
from ares.market.files import load_bars
from ares.market.stored.datasets import import_files, load_dataset
from ares.market.streaming import report_files
from ares.store.workspace import Workspace

MARKET = {"symbol": "BTCUSD", "exchange": "bitfinex", "timeframe": "1m"}
COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
BITFINEX = "timestamp,open,close,high,low,volume"
SECONDS = 20
TOKENS = [
    "", " ", "nan", "NaN", "-nan", "inf", "-inf", "Infinity", "1e999", "1e-999", "-1", "0", "-0.0", "1e5",
    "0x10", "1_000", "1,5", '"1"', '"', '"1', "''", "null", "NULL", "None", "N/A", "#N/A", "=1+1", "+5",
    "5.", ".5", "1e", "e5", "--5", "1 2", "\u0661", "\u00a05", "9" * 25, "9223372036854775807", "1e18",
    "-9223372036854775808", "2020-01-01", "2020-02-30", "2020-01-01T00:00:00Z", "2020-01-01 24:00:00",
    "2020-01-01T00:00:60", "20200101", "1.5e9", "1600000000.5", "true", "<script>", '=HYPERLINK("x")',
    "\x1b[2J", "{{title}}", "\ufeff", "\ud7ff", "0" * 400 + "1", "1" + "0" * 400, "0." + "0" * 400 + "1",
    "2.2250738585072011e-308", "179769313486231580793e289", "5e-324", "0.1", "100000000000000016777215",
]  # fmt: skip


def corpus(shared):
    """Whole files in every supported layout: kind, bytes, declared columns."""
    made = synthetic()
    if shared is not None:
        for path in sorted(shared.glob("*.csv.gz")):
            with gzip.open(path, "rb") as file:
                lines = file.read(40_000).split(b"\n")[:120]
            made.append(("csv", b"\n".join(lines) + b"\n", BITFINEX))
            made.append(("gz", gzip.compress(b"\n".join(lines) + b"\n", mtime=0), BITFINEX))
        real = pf.read_table(next(shared.glob("*.feather"))).slice(0, 200)
        real = real.set_column(0, "date", pa.array(1_600_000_020_000 + 60_000 * np.arange(200)))
        made += [("feather", _feather(real), None), ("parquet", _parquet(real), None)]
    return made


def synthetic():
    step = 60 * np.arange(40)
    close = np.round(10 + np.sin(step), 3)
    price = {
        "open": close,
        "high": close + 0.5,
        "low": close - 0.5,
        "close": close,
        "volume": close,
    }
    made = []
    seconds = 1_600_000_020 + step
    iso = [str(t) for t in seconds.astype("datetime64[s]")]
    for times in (
        seconds,
        seconds * 1000,
        [t + "Z" for t in iso],
        [t + "+02:00" for t in iso],
        iso,
        seconds + 0.0,
    ):
        for separator, end in ((",", "\n"), (";", "\r\n"), ("\t", "\r")):
            made.append(("csv", _text(times, price, COLUMNS, separator, end), None))
    plain = _text(seconds, price, COLUMNS, ",", "\n")
    made.append(("csv", b"\xef\xbb\xbf" + plain, None))
    made.append(
        (
            "csv",
            b"\n".join(b'"' + b'","'.join(r.split(b",")) + b'"' for r in plain.splitlines()),
            None,
        )
    )
    made.append(("csv", plain.split(b"\n", 1)[1], None))
    made.append(("csv", b"\n".join(b'"x, y",' + line for line in plain.splitlines()) + b"\n", None))
    made.append(
        ("csv", b"\n".join(line + b",1,2,3,4,5,6" for line in plain.splitlines()[1:]), None)
    )
    made.append(("gz", gzip.compress(plain, mtime=0), None))
    made.append(
        ("gz", gzip.compress(plain[:99], mtime=0) + gzip.compress(plain[99:], mtime=0), None)
    )
    for times in (
        seconds,
        seconds.astype("datetime64[s]"),
        seconds * 1000,
        pa.array(iso),
        pa.array([t + "Z" for t in iso]),
    ):
        table = pa.table({"timestamp": times, **price, "spare": pa.array(["x"] * 40)})
        for options in (
            {},
            {"compression": "zstd"},
            {"use_dictionary": False, "compression": "none"},
            {"data_page_version": "2.0", "row_group_size": 7},
        ):
            made += [("parquet", _parquet(table, **options), None)]
        for options in (
            {},
            {"compression": "zstd"},
            {"compression": "uncompressed", "chunksize": 9},
        ):
            made += [("feather", _feather(table, **options), None)]
    return made


def _text(times, price, names, separator, end):
    cells = [times, *(price[name] for name in names[1:])]
    lines = [separator.join(names)]
    lines += [separator.join(str(c[n]) for c in cells) for n in range(len(times))]
    return (end.join(lines) + end).encode()


def _parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _feather(table, **options):
    sink = io.BytesIO()
    pf.write_feather(table, sink, **options)
    return sink.getvalue()


def mutated(data, kind, draw):
    """`data` with one to four things changed."""
    if kind == "gz" and draw.random() < 0.6:
        return gzip.compress(mutated(gzip.decompress(data), "csv", draw), mtime=0)
    if kind in {"parquet", "feather"} and draw.random() < 0.6:
        data = _table(data, kind, draw)
        if draw.random() < 0.8:
            return data
    for _ in range(draw.randint(1, 4)):
        if kind == "csv" and draw.random() < 0.7:
            edits = [_cell, _spelling, _spelling, _spelling, _lines, _lines, _columns]
            data = draw.choice(edits)(data, draw)
        else:
            data = _bytes(data, draw, tail=kind in {"parquet", "feather"})
    return data


def _bytes(data, draw, *, tail):
    changed = bytearray(data)
    span = min(len(changed), 1500) if tail and draw.random() < 0.5 else len(changed)
    at = len(changed) - span + draw.randrange(max(span, 1))
    action = draw.choice(["flip", "set", "set", "insert", "delete", "cut", "copy"])
    if action == "flip" and at < len(changed):
        changed[at] ^= 1 << draw.randrange(8)
    elif action == "set" and at < len(changed):
        changed[at] = draw.choice([0, 255, 127, 128, draw.randrange(256)])
    elif action == "insert":
        changed[at:at] = bytes([draw.randrange(256)]) * draw.choice([1, 1, 4, 70])
    elif action == "delete":
        del changed[at : at + draw.choice([1, 1, 4, 50])]
    elif action == "cut" and draw.random() < 0.3:
        del changed[at:]
    elif action == "copy":
        other = draw.randrange(max(len(changed), 1))
        changed[at : at + 8] = changed[other : other + 8]
    return bytes(changed)


def _cell(data, draw):
    lines = data.split(b"\n")
    row = draw.randrange(len(lines))
    separator = draw.choice([b",", b";", b"\t"]) if b"," not in lines[row] else b","
    cells = lines[row].split(separator)
    cells[draw.randrange(len(cells))] = draw.choice(TOKENS).encode("utf-8", "surrogatepass")
    lines[row] = separator.join(cells)
    return b"\n".join(lines)


def _spelling(data, draw):
    """One cell written otherwise, meaning the same more often than not."""
    lines = data.split(b"\n")
    row = draw.randrange(len(lines))
    cells = lines[row].split(b",")
    place = draw.randrange(len(cells))
    cell = cells[place]
    with contextlib.suppress(ValueError, OverflowError):
        value = float(cell)
        choices = [
            b" %s" % cell, b"%s " % cell, b"\t%s" % cell, b'"%s"' % cell, b'" %s"' % cell, b"+%s" % cell,
            b"0%s" % cell, b"%r" % value, b"%.17e" % value, b"%.3f" % value, b"%s000" % cell, b"%s.0" % cell,
            b"%sE0" % cell, b"%se-0" % cell, b"%.40f" % value, b"%d" % value,
        ]  # fmt: skip
        cells[place] = draw.choice(choices)
    lines[row] = b",".join(cells)
    return b"\n".join(lines)


def _table(data, kind, draw):
    """The table inside with cells, rows, names or types changed, written with other options."""
    table = (
        pq.read_table(io.BytesIO(data)) if kind == "parquet" else pf.read_table(io.BytesIO(data))
    )
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(table.num_columns)
        name, column = table.column_names[place], table.column(place)
        match draw.choice(["cell", "rows", "rows", "repeat", "rename", "type", "order", "empty"]):
            case "cell":
                cells = column.to_pylist()
                bad = [None] if isinstance(cells[0], str) or not isinstance(cells[0], float) else [
                    None, math.nan, math.inf, -1.0, 0.0, 1e308, 5e-324, cells[0] * (1 + 2**-52)
                ]  # fmt: skip
                cells[draw.randrange(len(cells))] = draw.choice(bad)
                table = table.set_column(place, name, pa.array(cells, column.type))
            case "rows":
                order = list(range(table.num_rows))
                a, b = draw.choices(order, k=2)
                order[a], order[b] = order[b], order[a]
                table = table.take(order)
            case "repeat":
                table = pa.concat_tables([table, table.slice(draw.randrange(table.num_rows), 3)])
            case "rename":
                names = list(table.column_names)
                names[place] = draw.choice(
                    ["Open", "c", "=1+1", "<script>", "a.b", "Open Time", ""]
                )
                table = table.rename_columns(names)
            case "type":
                kinds = [pa.float32(), pa.int64(), pa.float16(), pa.string(), pa.large_string(), pa.int32(), pa.bool_(), pa.decimal128(38, 9), pa.timestamp("us"), pa.timestamp("ns", "Asia/Tokyo"), pa.date32(), pa.dictionary(pa.int32(), pa.string())]  # fmt: skip
                with contextlib.suppress(pa.ArrowException):
                    table = table.set_column(
                        place, name, column.cast(draw.choice(kinds), safe=False)
                    )
            case "order":
                order = list(range(table.num_columns))
                draw.shuffle(order)
                table = table.select(order)
            case _:
                table = table.slice(0, draw.choice([0, 1, 2, table.num_rows]))
                if not table.num_rows:
                    break
    try:
        if kind == "parquet":
            return _parquet(
                table,
                row_group_size=draw.choice([3, 1000]),
                compression=draw.choice(["snappy", "zstd", "gzip", "lz4", "none"]),
            )
        return _feather(
            table,
            compression=draw.choice(["lz4", "zstd", "uncompressed"]),
            chunksize=draw.choice([3, 1000]),
        )
    except pa.ArrowException:
        return data


def _lines(data, draw):
    lines = data.split(b"\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.choice(["swap", "swap", "repeat", "drop", "blank"]):
        case "swap":
            lines[a], lines[b] = lines[b], lines[a]
        case "repeat":
            lines.insert(b, lines[a])
        case "drop":
            del lines[a]
        case _:
            lines.insert(a, draw.choice([b"", b" ", b",", b"\r", b"\t\t"]))
    return b"\n".join(lines)


def _columns(data, draw):
    rows = [line.split(b",") for line in data.split(b"\n")]
    order = list(range(max(map(len, rows))))
    draw.shuffle(order)
    return b"\n".join(b",".join(r[n] for n in order if n < len(r)) for r in rows)


def same(a, b):
    return a == b or (
        isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    )


def rows_of(frame):
    times = frame["timestamp"].dt.tz_localize(None).to_numpy().astype(np.int64).tolist()
    times = [None if t == np.iinfo(np.int64).min else t for t in times]
    return list(zip(times, *(frame[name].tolist() for name in COLUMNS[1:]), strict=True))


def naive(path, kind, declared):
    """Rows by the naive reader of whatever the file has become."""
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        file = pq.ParquetFile(io.BytesIO(data))
        return naive_files.arrow_rows(
            file.schema_arrow.names, lambda names: file.read(columns=names)
        )
    if data[:6] == b"ARROW1":
        names = pa.ipc.open_file(data).schema.names

        def read(wanted):
            fields = [names.index(name) for name in wanted]
            options = pa.ipc.IpcReadOptions(included_fields=sorted(fields))
            return pa.ipc.open_file(data, options=options).read_all()

        return naive_files.arrow_rows(names, read)
    return naive_files.text_rows(data, declared) if kind in {"csv", "gz"} else None


def refused(read):
    """The result, or the error in its place; any other exception goes up."""
    try:
        return read()
    except AresError as error:
        if not str(error).isprintable() or error.exit_code != 2:
            raise RuntimeError("an error that is not clear") from error
        return error


def run(path, kind, declared, draw):
    """Outcome of one file: "equal", "refused" or "unknown"; raises AssertionError otherwise."""
    how = {"columns": declared, **MARKET}
    bars = refused(lambda: load_bars(path, bad_prints="keep", **how))
    report = refused(lambda: report_files(path, timeframe="1m", columns=declared))
    size = draw.choice([1, 7, 10_000])
    chunks = refused(lambda: list(StreamingDataProcessor(size, columns=declared).iter_chunks(path)))
    workspace = Workspace(path.parent / "home")
    made = refused(lambda: import_files(workspace, path, options={"bad_prints": "keep"}, **how))
    readable = [x for x in (bars, report, chunks, made) if not isinstance(x, AresError)]
    assert isinstance(bars, AresError) == isinstance(made, AresError), "load and import disagree"
    if not readable:
        return "refused"
    expected = naive(path, kind, declared)
    if expected is None:
        assert not isinstance(bars, AresError) or not isinstance(report, AresError)
        return "unknown"
    if not isinstance(chunks, AresError):
        found = [row for chunk in chunks for row in rows_of(chunk)]
        assert all(len(chunk) == size for chunk in chunks[:-1]), "chunks of another size"
        _assert_rows(found, expected, "stream")
    if not isinstance(report, AresError):
        for name, count in naive_files.counts(expected).items():
            assert getattr(report, name) == count, (name, getattr(report, name), count)
    if isinstance(bars, AresError):
        return "refused"
    _assert_bars(bars, naive_files.door(expected))
    assert load_dataset(workspace, *MARKET.values()) == bars, "the dataset holds other bars"
    return "equal"


def _assert_rows(found, expected, reader):
    assert len(found) == len(expected), (reader, len(found), len(expected))
    for n, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert all(map(same, a, b)), (reader, n, a, b)


def _assert_bars(bars, expected):
    assert expected is not None, "an impossible row was let through"
    columns = [getattr(bars, name).tolist() for name in COLUMNS]
    assert all(math.isfinite(x) for column in columns for x in column)
    _assert_rows(list(zip(*columns, strict=True)), expected, "load")


def main():
    output, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    files = corpus(Path(sys.argv[4]) if len(sys.argv) > 4 else None)
    by_kind = {
        kind: [f for f in files if f[0] == kind] for kind in ("csv", "gz", "parquet", "feather")
    }
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    memory = Path("/dev/shm")  # a flush to a disk is what most of a case would take
    folder = Path(tempfile.mkdtemp(prefix="ares-fuzz-", dir=memory if memory.is_dir() else None))
    with Path(output).open("a") as log, contextlib.suppress(KeyboardInterrupt):
        for case in range(first, first + count):
            draw = random.Random(case)
            kind = draw.choice(["csv", "csv", "csv", "gz", "parquet", "parquet", "feather"])
            _, data, declared = draw.choice(by_kind[kind])
            path = folder / str(case) / f"bars.{'csv.gz' if kind == 'gz' else kind}"
            path.parent.mkdir()
            path.write_bytes(mutated(data, kind, draw))
            log.write(json.dumps({"case": case, "kind": kind}) + "\n")
            log.flush()
            signal.alarm(SECONDS)  # nobody handles it: a hang ends the process
            try:
                outcome = run(path, kind, declared, draw)
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is a finding
                trace = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(trace.filename).name}:{trace.lineno}"
                outcome = f"{type(error).__name__} at {place}: {error}"[:600]
            signal.alarm(0)
            log.write(json.dumps({"case": case, "kind": kind, "outcome": outcome}) + "\n")
            log.flush()
            if outcome in {"equal", "refused", "unknown"}:
                shutil.rmtree(path.parent)
    print(folder)


if __name__ == "__main__":
    main()
