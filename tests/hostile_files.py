"""Files that were made to hurt their reader: each builder writes one and returns its path."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq

START = 1_600_000_020
HEADER = b"timestamp,open,high,low,close,volume\n"
ROW = b"%d,10.5,11.25,9.125,10.0625,1.5\n"
ROLES = ("timestamp", "open", "high", "low", "close", "volume")


def table(rows=50, **columns):
    close = 10 + np.arange(rows) % 8 / 8
    made = {
        "timestamp": (START + 60 * np.arange(rows)) * 1000,
        "open": close,
        "high": close + 1,
        "low": close - 1,
        "close": close,
        "volume": close,
    }
    return pa.table({**made, **columns})


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def zigzag(number):
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def thrift(fields):
    """A struct in the compact protocol; values: int (i64), bytes, dict (struct), list of these."""
    out, last = bytearray(), 0
    for number, value in sorted(fields.items()):
        kind = _kind(value)
        out += bytes([(number - last) << 4 | kind]) + _encoded(value)
        last = number
    return bytes(out) + b"\0"


def _kind(value):
    return {int: 6, bytes: 8, dict: 12, list: 9}[type(value)]


def _encoded(value):
    if isinstance(value, int):
        return zigzag(value)
    if isinstance(value, bytes):
        return varint(len(value)) + value
    if isinstance(value, dict):
        return thrift(value)
    kind = _kind(value[0]) if value else 6
    return bytes([0xF0 | kind]) + varint(len(value)) + b"".join(map(_encoded, value))


def parquet_of(pages, *, rows, group_rows=None, values=None, codec=0, schema=None, kinds=None):
    """A Parquet file of six columns, each of the bytes `pages` (headers included), forged freely."""
    body, chunks = bytearray(b"PAR1"), []
    kinds = kinds or [2, 5, 5, 5, 5, 5]
    for name, kind in zip(ROLES, kinds, strict=True):
        page = pages[name] if isinstance(pages, dict) else pages
        meta = {
            1: kind,
            2: [0],
            3: [name.encode()],
            4: codec,
            5: rows if values is None else values,
            6: len(page),
            7: len(page),
            9: len(body),
        }
        chunks.append({2: len(body), 3: meta})
        body += page
    if schema is None:
        schema = [{4: b"schema", 5: 6}] + [
            {1: kind, 3: 0, 4: name.encode()} for name, kind in zip(ROLES, kinds, strict=True)
        ]
    groups = [{1: chunks, 2: 10, 3: rows if group_rows is None else group_rows}]
    footer = thrift({1: 1, 2: schema, 3: rows, 4: groups})
    return bytes(body) + footer + struct.pack("<I", len(footer)) + b"PAR1"


def page(payload, *, values, unpacked=None, kind=0, encoding=0):
    counts = {1: values, 2: encoding, 3: 3, 4: 3} if kind == 0 else {1: values, 2: encoding}
    header = {
        1: kind,
        2: len(payload) if unpacked is None else unpacked,
        3: len(payload),
        (5 if kind == 0 else 7): counts,
    }
    return thrift(header) + payload


def zeros(size, level=9):
    """`size` zero bytes, deflated in the gzip format, at constant memory."""
    pack = zlib.compressobj(level, wbits=31)
    block = b"0" * (1 << 20)
    return b"".join([pack.compress(block) for _ in range(size >> 20)] + [pack.flush()])


def _parquet(make):
    def build(folder):
        path = folder / "bars.parquet"
        made = make()
        if isinstance(made, bytes):
            path.write_bytes(made)
        else:
            pq.write_table(made[0], path, **made[1])
        return path

    return build


def _feather(make):
    def build(folder):
        path = folder / "bars.feather"
        made = make()
        if isinstance(made, bytes):
            path.write_bytes(made)
        else:
            pf.write_feather(made[0], path, **made[1])
        return path

    return build


def _csv(make, name="bars.csv"):
    def build(folder):
        path = folder / name
        path.write_bytes(make())
        return path

    return build


def constant(rows):
    """Six columns of one value, `rows` long, without the memory of them."""
    zero = pa.array(np.zeros(rows, dtype=np.int8))
    price = pa.DictionaryArray.from_arrays(zero, pa.array([5.0])).cast(pa.float64())
    return pa.table(
        {"timestamp": pa.array(np.full(rows, START)), **dict.fromkeys(ROLES[1:], price)}
    )


def zstd_bomb():
    """One page per column that decodes to 1 GiB of zeros, of which the footer says nothing."""
    size = 1 << 30
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as pack:
        for _ in range(size >> 20):
            pack.write(b"\0" * (1 << 20))
    payload = sink.getvalue().to_pybytes()
    return parquet_of(page(payload, values=50, unpacked=size), rows=50, codec=6)


def long_texts():
    """A dictionary of one long text, used by every row: 64 GB in one batch."""
    text = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(100_000, dtype=np.int32)), pa.array(["2020-01-01" + " " * 1_000_000])
    )
    return table(100_000, timestamp=text), {"compression": "zstd", "store_schema": False}


def many_groups():
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table().schema) as writer:
        for _ in range(3):
            writer.write_table(table())
    group = {1: [{2: 4, 3: {1: 5, 5: 0, 7: 0, 9: 4}}] * 6, 2: 0, 3: 0}
    schema = [{4: b"schema", 5: 6}] + [{1: 5, 3: 0, 4: name.encode()} for name in ROLES]
    footer = thrift({1: 1, 2: schema, 3: 0, 4: [group] * 60_000})
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def deep_schema(depth=200_000):
    schema = [{4: b"x", 5: 1}] * depth + [{1: 5, 3: 0, 4: b"x"}]
    footer = thrift({1: 1, 2: schema, 3: 0, 4: []})
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def deep_struct():
    footer = b"\x1c" * 1_000_000
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def delta_lie():
    """A page of delta-packed integers whose header claims two milliards of small blocks."""
    payload = varint(128) + varint(1 << 31) + varint(50) + zigzag(0) + b"\0" * 64
    pages = dict.fromkeys(ROLES[1:], page(struct.pack("<50d", *[5.0] * 50), values=50))
    pages["timestamp"] = page(payload, values=50, encoding=5)
    return parquet_of(pages, rows=50)


def feather_bomb():
    big = constant(20_000_000)
    return big, {"compression": "zstd", "chunksize": 20_000_000}


def feather_lie():
    """The decoded size of one compressed buffer is raised to a tebibyte."""
    sink = io.BytesIO()
    pf.write_feather(table(5000), sink, compression="zstd")
    data = bytearray(sink.getvalue())
    place = data.index(struct.pack("<q", 40_000))
    data[place : place + 8] = struct.pack("<q", 1 << 40)
    return bytes(data)


def wide(columns):
    names = [*ROLES, *(f"c{n}" for n in range(columns))]
    return pa.table({name: [1.0] for name in names}), {}


def packed_lines(members, size):
    one = gzip.compress(b"9" * size, mtime=0)
    return gzip.compress(HEADER, mtime=0) + one * members


def zipped(name="../../x.csv"):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, HEADER + b"0" * 10_000_000)
    return sink.getvalue()


def rows(count):
    return b"".join(ROW % (START + 60 * n) for n in range(count))


def giant_line(folder):
    """A line of 1 GiB, sparse on the disk where it can be: spaces are written for real."""
    path = folder / "bars.csv"
    with path.open("wb") as file:
        file.write(HEADER + rows(50))
        for _ in range(256):
            file.write(b"9" * (4 << 20))
    return path


HOSTILE = {
    "parquet: forged number of values": _parquet(
        lambda: parquet_of(page(b"\0" * 8, values=2**31 - 1), rows=50, values=2**31 - 1)
    ),
    "parquet: values and rows forged alike": _parquet(
        lambda: parquet_of(page(b"\0" * 8, values=199_999_999), rows=199_999_999)
    ),
    "parquet: rows within limits, no data": _parquet(
        lambda: parquet_of(page(b"\0" * 8, values=1_300_000), rows=1_300_000)
    ),
    "parquet: forged dictionary": _parquet(
        lambda: parquet_of(
            page(b"\0" * 8, values=2**30, kind=2) + page(b"\0" * 8, values=50, encoding=8), rows=50
        )
    ),
    "parquet: page that claims 2 GiB": _parquet(
        lambda: parquet_of(page(b"\0" * 8, values=50, unpacked=2**31 - 1), rows=50, codec=6)
    ),
    "parquet: negative sizes": _parquet(
        lambda: parquet_of(page(b"\0" * 8, values=50, unpacked=-1), rows=50)
    ),
    "parquet: zstd bomb in a page": _parquet(zstd_bomb),
    "parquet: 20 million constant rows": _parquet(
        lambda: (constant(20_000_000), {"compression": "zstd"})
    ),
    "parquet: a billion rows claimed": _parquet(
        lambda: parquet_of(page(b"\0" * 8, values=10**9), rows=10**9)
    ),
    "parquet: groups that add up to less": _parquet(
        lambda: parquet_of(page(b"\0" * 400, values=50), rows=50, group_rows=49)
    ),
    "parquet: long text in a dictionary": _parquet(long_texts),
    "parquet: 60,000 empty row groups": _parquet(many_groups),
    "parquet: schema 200,000 deep": _parquet(deep_schema),
    "parquet: footer of nested structs": _parquet(deep_struct),
    "parquet: delta blocks that lie": _parquet(delta_lie),
    "parquet: 20,000 columns": _parquet(lambda: wide(20_000)),
    "parquet: nested": _parquet(lambda: (table(close=[[1.0]] * 50), {})),
    "parquet: extension type": _parquet(
        lambda: (
            table(close=pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1] * 50, pa.int8()))),
            {},
        )
    ),
    "parquet: dictionary of text": _parquet(
        lambda: (table(close=pa.array(["1"] * 50).dictionary_encode()), {})
    ),
    "parquet: footer length beyond the file": _parquet(
        lambda: b"PAR1" + b"x" * 20 + struct.pack("<I", 2**32 - 1) + b"PAR1"
    ),
    "feather: 20 million constant rows": _feather(feather_bomb),
    "feather: buffer that claims 1 TiB": _feather(feather_lie),
    "feather: 20,000 columns": _feather(lambda: wide(20_000)),
    "feather: dictionary of text": _feather(
        lambda: (table(close=pa.array(["1"] * 50).dictionary_encode()), {})
    ),
    "feather: nested": _feather(lambda: (table(close=[[1.0]] * 50), {})),
    "feather: footer that lies": _feather(
        lambda: b"ARROW1\0\0" + b"\xff" * 100 + struct.pack("<i", 100) + b"ARROW1"
    ),
    "feather: version 1": _feather(lambda: b"FEA1" + b"\0" * 100),
    "csv: a line of 1 GiB": giant_line,
    "csv: a million columns": _csv(lambda: b"c," * 1_000_000 + b"\n"),
    "csv: 30,000 columns in one row": _csv(lambda: HEADER + rows(5) + b"1," * 30_000 + b"\n"),
    "csv: 300 columns": _csv(lambda: b",".join(b"c%d" % n for n in range(300)) + b"\n"),
    "csv: NUL": _csv(lambda: HEADER + rows(5) + b"1\0" * 9 + b"\n"),
    "csv: UTF-16": _csv(lambda: (HEADER + rows(5)).decode().encode("utf-16")),
    "csv: UTF-16 without a mark": _csv(lambda: (HEADER + rows(5)).decode().encode("utf-16-le")),
    "csv: UTF-32": _csv(lambda: (HEADER + rows(5)).decode().encode("utf-32")),
    "csv: Latin-1 header": _csv(lambda: "é,open,high,low,close,volume\n".encode("latin-1")),
    "csv: 1e999": _csv(lambda: HEADER + rows(5) + b"1600000320,1e999,1e999,1,1,1\n"),
    "csv: a quote that never closes": _csv(
        lambda: HEADER + rows(5) + b'"1600000320,' + rows(90_000)
    ),
    "csv: a quoted cell over two lines": _csv(
        lambda: HEADER + rows(5) + b'1600000320,"1\n",2,1,1,1\n'
    ),
    "csv: a decimal of 60,000 digits": _csv(
        lambda: HEADER + b"1600000320," + b"9" * 60_000 + b",1,1,1,1\n"
    ),
    "csv: a time of 60,000 digits": _csv(lambda: HEADER + b"9" * 60_000 + b",1,1,1,1,1\n"),
    "csv: an exponent of many digits": _csv(
        lambda: HEADER + rows(5) + b"1600000320,1e" + b"9" * 5_000 + b",1,1,1,1\n"
    ),
    "gzip: bomb": _csv(lambda: zeros(2 << 30), "bars.csv.gz"),
    "gzip: bomb of lines": _csv(
        lambda: gzip.compress(HEADER + (ROW % START) * 4_000_000, 9), "bars.csv.gz"
    ),
    "gzip: bomb of small members": _csv(lambda: packed_lines(40_000, 20_000), "bars.csv.gz"),
    "gzip: a long line in small members": _csv(lambda: packed_lines(200, 1000), "bars.csv.gz"),
    "gzip: a million empty members": _csv(
        lambda: gzip.compress(HEADER) + gzip.compress(b"", mtime=0) * 1_000_000, "bars.csv.gz"
    ),
    "gzip: gzip in gzip": _csv(
        lambda: gzip.compress(gzip.compress(HEADER + rows(9))), "bars.csv.gz"
    ),
    "gzip: no end": _csv(lambda: gzip.compress(HEADER + rows(9))[:-4], "bars.csv.gz"),
    "zip with a traversing member": _csv(zipped, "bars.zip"),
    "zip named csv": _csv(zipped),
    "empty zip": _csv(lambda: b"PK\x05\x06" + b"\0" * 18, "bars.csv"),
    "xz": _csv(lambda: b"\xfd7zXZ\0" + b"\0" * 90),
    "bzip2": _csv(lambda: b"BZh91AY&SY" + b"\0" * 90),
}
