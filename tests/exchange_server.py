"""An exchange on the loopback address: Binance's REST klines and bulk dumps, faults on demand.

It serves whatever bars it is given, in the wire formats of the real ones, from threads of the
test's own process. Its clock stands still at `now`, so "today" is wherever the bars end.
"""

from __future__ import annotations

import collections
import datetime as dt
import email.utils
import hashlib
import io
import json
import os
import threading
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np

MINUTE = 60_000
DAY = 86_400_000
UNITS = {"m": MINUTE, "h": 60 * MINUTE, "d": DAY}


def length_of(timeframe: str) -> int:
    return int(timeframe[:-1]) * UNITS[timeframe[-1]]


def synthetic_bars(count: int, start: int, step: int = MINUTE, seed: int = 0) -> np.ndarray:
    """A random walk of two decimals: float64 (count, 6), times in ms."""
    walk = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(walk.normal(0, 1e-3, count))), 2)
    opens = np.concatenate([[100.0], close[:-1]])
    high = np.round(np.maximum(opens, close) + 0.05, 2)
    low = np.round(np.minimum(opens, close) - 0.05, 2)
    times = start + step * np.arange(count)
    volume = np.round(walk.uniform(0.1, 9, count), 3)
    return np.column_stack([times, opens, high, low, close, volume])


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path holds `path`, after `after`."""

    kind: str
    path: str = "klines"
    times: int = 1
    after: int = 0
    value: Any = None


@dataclass
class Exchange:
    """State that a test changes while the server runs.

    Attributes:
        bars: Rows of (time in ms, open, high, low, close, volume) by (symbol id, timeframe).
        now: The server's clock, Unix ms; the bar that is open then is served, unfinished.
        page: Bars per answer at most.
        delay: Seconds before each answer.
        faults: Planned faults, the first that fits is taken.
        requests: Paths with their queries, as they came.
        headers: Headers of all requests, to look for what must not be there.
    """

    bars: dict[tuple[str, str], np.ndarray]
    now: int
    page: int = 1000
    delay: float = 0.0
    time_offset: int = 0
    windowed: bool = False
    microseconds_from: int = 1_735_689_600_000
    header_row: bool = False
    missing_files: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    url: str = ""
    _files: dict[str, bytes] = field(default_factory=dict)
    _last_klines: list[Any] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        exchange = self
        self._proxies = os.environ.get("no_proxy")
        os.environ["no_proxy"] = "127.0.0.1"  # whatever proxy this machine has

        class Handler(_Handler):
            state = exchange

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._proxies is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = self._proxies
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def taken(self, path: str) -> Fault | None:
        with self._lock:
            self.requests.append(path)
            for fault in self.faults:
                if fault.path not in path or fault.times == 0:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        """Status and body of a path without its query."""
        if path.endswith("/time"):
            return 200, json.dumps({"serverTime": self.now + self.time_offset}).encode()
        if path.endswith("/exchangeInfo"):
            symbols = [] if "/api/" not in path else sorted({name for name, _ in self.bars})
            return 200, json.dumps({"symbols": [_listing(name) for name in symbols]}).encode()
        if path == "/api/v3/klines":
            return self._klines({name: values[0] for name, values in query.items()})
        if path.startswith("/data/spot/"):
            return self._file(path)
        return 404, b'{"code":-1,"msg":"no such path"}'

    def _klines(self, query: dict[str, str]) -> tuple[int, bytes]:
        step = length_of(query["interval"])
        rows = self._rows(query["symbol"], query["interval"])
        if rows is None:
            return 400, b'{"code":-1121,"msg":"Invalid symbol."}'
        limit = min(int(query.get("limit", "500")), self.page)
        rows = rows[rows[:, 0] <= self.now]
        if "startTime" in query:
            start = int(query["startTime"])
            rows = rows[rows[:, 0] >= start]
            if self.windowed:
                rows = rows[rows[:, 0] < start + limit * step]
            rows = rows[:limit]
        else:
            rows = rows[-limit:]
        self._last_klines = [self._kline(row, step) for row in rows]
        return 200, json.dumps(self._last_klines).encode()

    def _rows(self, symbol: str, interval: str) -> np.ndarray | None:
        rows = self.bars.get((symbol, interval))
        if rows is None and interval == "1d":
            finer = next((rows for (name, _), rows in self.bars.items() if name == symbol), None)
            if finer is not None:
                days = np.unique(finer[:, 0] // DAY * DAY)
                first = finer[np.searchsorted(finer[:, 0], days)]
                rows = np.column_stack([days, first[:, 1:]])
        return rows

    def _kline(self, row: np.ndarray, step: int) -> list[Any]:
        start = int(row[0])
        o, h, low, c, v = (float(x) for x in row[1:])
        if start + step > self.now:  # the bar of this moment: its last price is not known yet
            c, h, low, v = o, max(o, 0.0), o, v / 2
        text = [repr(x) for x in (o, h, low, c, v)]
        return [start, *text, start + step - 1, "0.5", 7, "0.1", "0.2", "0"]

    def _file(self, path: str) -> tuple[int, bytes]:
        name = path.rsplit("/", 1)[1].removesuffix(".CHECKSUM")
        if name in self.missing_files:
            return 404, b"<Error>NoSuchKey</Error>"
        if name not in self._files:
            made = self._zip(name.removesuffix(".zip"), "monthly" in path)
            if made is None:
                return 404, b"<Error>NoSuchKey</Error>"
            self._files[name] = made
        data = self._files[name]
        if path.endswith(".CHECKSUM"):
            return 200, f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()
        return 200, data

    def _zip(self, stem: str, monthly: bool) -> bytes | None:
        symbol, interval, *date = stem.split("-")
        numbers = [int(part) for part in date]
        start = dt.datetime(*numbers, *([1] if monthly else []), tzinfo=dt.UTC)  # type: ignore[arg-type]
        stop = start + dt.timedelta(days=1)
        if monthly:
            stop = (start + dt.timedelta(days=32)).replace(day=1)
        first, last = (int(moment.timestamp() * 1000) for moment in (start, stop))
        rows = self.bars.get((symbol, interval))
        if rows is None or last > self.now:
            return None
        rows = rows[(rows[:, 0] >= first) & (rows[:, 0] < last)]
        if len(rows) == 0:
            return None
        step = length_of(interval)
        lines = ["open_time,open,high,low,close,volume,close_time,quote_volume,count,tb,tq,ignore"]
        lines = lines if self.header_row else []
        scale = 1000 if first >= self.microseconds_from else 1
        for row in rows:
            cells = self._kline(row, step)
            cells[0], cells[6] = cells[0] * scale, (cells[6] + 1) * scale - 1
            lines.append(",".join(str(cell) for cell in cells))
        return zip_of({f"{stem}.csv": "\n".join(lines) + "\n"})

    def put_file(self, name: str, data: bytes) -> None:
        """Serve `data` as the dump of that name, with its right checksum."""
        self._files[name] = data


def zip_of(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(
                zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


class _Handler(BaseHTTPRequestHandler):
    state: Exchange
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        state = self.state
        parts = urlsplit(self.path)
        state.headers.extend(f"{name}: {value}" for name, value in self.headers.items())
        fault = state.taken(self.path)
        if state.delay:
            time.sleep(state.delay)
        before = list(state._last_klines)
        status, body = state.answer(parts.path, parse_qs(parts.query))
        if fault is None:
            self._send(status, body)
        else:
            self._fail(fault, status, body, before)

    def _fail(self, fault: Fault, status: int, body: bytes, before: list[Any]) -> None:
        kind, value = fault.kind, fault.value
        if kind == "status":
            code, headers, text = value
            self._send(code, text, headers)
        elif kind == "cut":
            self._send(status, body, cut=True)
        elif kind == "garbage":
            self._send(200, b"<html>busy</html>")
        elif kind == "body":
            self._send(200, value)
        elif kind == "repeat":
            self.state._last_klines = before
            self._send(status, json.dumps(before).encode())
        elif kind == "redirect":
            self._send(302, b"", {"Location": value})
        elif kind == "hang":
            time.sleep(value)
            self.close_connection = True
        else:
            raise AssertionError(kind)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(self.state.now / 1000, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def _listing(name: str) -> dict[str, Any]:
    quote = next(q for q in ("USDT", "USD", "BTC") if name.endswith(q))
    return {
        "symbol": name, "status": "TRADING", "baseAsset": name.removesuffix(quote),
        "baseAssetPrecision": 8, "quoteAsset": quote, "quotePrecision": 8,
        "quoteAssetPrecision": 8, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "permissions": ["SPOT"], "orderTypes": ["LIMIT"],
        "filters": [{"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"}],
    }  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` that is no lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def counted(requests: list[str]) -> collections.Counter[str]:
    """Requests by the last part of their path."""
    return collections.Counter(urlsplit(path).path.rsplit("/", 1)[1] for path in requests)
