"""Exchanges of other habits than Binance's, on the loopback address: Kraken, Coinbase, OKX, Bybit, KuCoin."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from exchange_server import MINUTE, Exchange

HOUR = 60 * MINUTE
LENGTHS = {"1m": MINUTE, "1h": HOUR, "4h": 4 * HOUR, "1d": 24 * HOUR, "1w": 168 * HOUR}


@dataclass
class Other(Exchange):
    """What they have in common. Bars are those of one market, or hours, days and weeks of them.

    Attributes:
        exchange: Its id.
        market_id: Its name of the market.
        symbol: The name that ccxt has for it.
        names: Its names of the lengths of a bar.
        klines: What the path of a question for bars holds.
    """

    exchange: ClassVar[str]
    market_id: ClassVar[str]
    symbol: ClassVar[str] = "BTC/USD"
    names: ClassVar[dict[str, str]]
    klines: ClassVar[str] = "candles"

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        tree = self.tree_of(path, {name: values[0] for name, values in query.items()})
        if tree is None:
            return 404, b'{"error":"no such path"}'
        return (400 if "error_details" in tree else 200), json.dumps(tree).encode()

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        raise NotImplementedError

    def opened(self, name: str) -> tuple[np.ndarray, int]:
        """Rows that have opened, the last one unfinished, and their length in ms."""
        timeframe = next(own for own, theirs in self.names.items() if theirs == name)
        rows, step = self._rows(self.market_id, timeframe), LENGTHS[timeframe]
        if rows is None:
            finest = min(self.bars, key=lambda key: LENGTHS[key[1]])
            rows = self.bars[finest]
            starts = np.unique(rows[:, 0] // step * step)
            rows = np.column_stack([starts, rows[np.searchsorted(rows[:, 0], starts), 1:]])
        return rows[rows[:, 0] <= self.now], step

    def numbers(self, row: np.ndarray, step: int) -> list[str]:
        """Open, high, low, close and volume as text; of the open bar as they are so far."""
        return [str(x) for x in self._kline(row, step)[1:6]]


@dataclass
class Kraken(Other):
    """`since` and whatever is asked: the newest 720 bars only, the open one among them always."""

    page: int = 720
    exchange = "kraken"
    klines = "OHLC"
    names: ClassVar = {"1m": "1", "1h": "60", "4h": "240", "1d": "1440", "1w": "10080"}
    market_id = "XXBTZUSD"

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        if path == "/0/public/Time":
            return {"error": [], "result": {"unixtime": self.now // 1000}}
        if path == "/0/public/AssetPairs":
            pair = {
                "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD",
                "pair_decimals": 1, "lot_decimals": 8, "status": "online",
            }  # fmt: skip
            return {"error": [], "result": {self.market_id: pair}}
        if path == "/0/public/OHLC":
            rows, step = self.opened(query["interval"])
            newest = rows[-self.page :]
            after = newest[:-1, 0] > 1000 * int(query.get("since", "0"))
            return {"error": [], "result": {self.market_id: [
                self._candle(row, step) for row in [*newest[:-1][after], *newest[-1:]]
            ], "last": int(newest[-1, 0]) // 1000}}  # fmt: skip
        return None

    def _candle(self, row: np.ndarray, step: int) -> list[Any]:
        o, h, low, c, volume = self.numbers(row, step)
        return [int(row[0]) // 1000, o, h, low, c, c, volume, 5]


@dataclass
class Coinbase(Other):
    """At most 350 bars between two times, the newest first; more is an error."""

    page: int = 350
    exchange = "coinbase"
    names: ClassVar = {"1m": "ONE_MINUTE", "1h": "ONE_HOUR", "1d": "ONE_DAY"}
    market_id = "BTC-USD"

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        products = "/api/v3/brokerage/market/products"
        if path == "/v2/time":
            return {"data": {"epoch": self.now // 1000}}
        if path == products:
            spot = {
                "product_id": self.market_id, "base_currency_id": "BTC", "quote_currency_id": "USD",
                "product_type": "SPOT", "status": "online", "base_increment": "0.00000001",
                "quote_increment": "0.01", "price_increment": "0.01", "alias_to": [],
            }  # fmt: skip
            return {"products": [] if query.get("product_type") == "FUTURE" else [spot]}
        if path == f"{products}/{self.market_id}/candles":
            rows, step = self.opened(query["granularity"])
            start, end = 1000 * int(query["start"]), 1000 * int(query["end"])
            if (end - start) // step > self.page:
                return {"error_details": "number of candles requested should be less than 350"}
            names = ("open", "high", "low", "close", "volume")
            within = rows[(rows[:, 0] >= start) & (rows[:, 0] <= end)]
            return {"candles": [
                {"start": str(int(row[0]) // 1000), **dict(zip(names, self.numbers(row, step), strict=True))}
                for row in within[::-1]
            ]}  # fmt: skip
        return None


@dataclass
class Okx(Other):
    """The newest of those between two times, and fewer of them than one may ask for."""

    page: int = 100
    exchange = "okx"
    names: ClassVar = {"1m": "1m", "1h": "1H", "1d": "1Dutc", "1w": "1Wutc"}
    market_id = "BTC-USD"

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        if path == "/api/v5/public/time":
            return {"code": "0", "data": [{"ts": str(self.now)}]}
        if path == "/api/v5/public/instruments":
            spot = {
                "instType": "SPOT", "instId": self.market_id, "baseCcy": "BTC", "quoteCcy": "USD",
                "tickSz": "0.01", "lotSz": "0.00000001", "minSz": "0.00001", "state": "live",
            }  # fmt: skip
            return {"code": "0", "data": [spot] if query["instType"] == "SPOT" else []}
        if path in ("/api/v5/market/candles", "/api/v5/market/history-candles"):
            rows, step = self.opened(query["bar"])
            before, after = int(query.get("before", "0")), int(query.get("after", self.now + 1))
            within = rows[(rows[:, 0] > before) & (rows[:, 0] < after)]
            newest = within[::-1][: min(int(query.get("limit", "100")), self.page)]
            return {"code": "0", "data": [
                [str(int(row[0])), *self.numbers(row, step), "1", "1", str(int(row[0] + step <= self.now))]
                for row in newest
            ]}  # fmt: skip
        return None


@dataclass
class Bybit(Other):
    """The first bars from a time on, the newest of them first; faults are told with status 200."""

    exchange = "bybit"
    klines = "kline"
    market_id = "BTCUSDT"
    symbol = "BTC/USDT"
    names: ClassVar = {"1m": "1", "1h": "60", "1d": "D", "1w": "W"}

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        result: dict[str, Any] = {"list": []}
        if path == "/v5/market/instruments-info":
            if query["category"] == "spot":
                result["list"] = [{
                    "symbol": self.market_id, "baseCoin": "BTC", "quoteCoin": "USDT",
                    "status": "Trading", "marginTrading": "none",
                    "lotSizeFilter": {"basePrecision": "0.000001", "minOrderQty": "0.00001"},
                    "priceFilter": {"tickSize": "0.01"},
                }]  # fmt: skip
        elif path == "/v5/market/kline":
            rows, step = self.opened(query["interval"])
            limit = min(int(query["limit"]), self.page)
            first = np.searchsorted(rows[:, 0], int(query["start"])) if "start" in query else None
            rows = rows[-limit:] if first is None else rows[first : first + limit]
            result["list"] = [
                [str(int(row[0])), *self.numbers(row, step), "1"] for row in rows[::-1]
            ]
        elif path != "/v5/market/time":
            return None
        return {
            "retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.now
        }  # fmt: skip


@dataclass
class Kucoin(Other):
    """The newest bars between two times, which ccxt chooses; nothing where nobody traded.

    Attributes:
        inclusive: Whether a bar that opens at the second time is among them.
    """

    page: int = 1500
    inclusive: bool = True
    exchange = "kucoin"
    market_id = "BTC-USDT"
    symbol = "BTC/USDT"
    names: ClassVar = {"1m": "1min", "1h": "1hour", "1d": "1day", "1w": "1week"}

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        data: Any = []
        if path == "/api/v1/timestamp":
            data = self.now
        elif path == "/api/v2/symbols":
            data = [{
                "symbol": self.market_id, "name": self.market_id, "baseCurrency": "BTC",
                "quoteCurrency": "USDT", "baseMinSize": "0.00001", "baseMaxSize": "10000",
                "quoteMinSize": "0.1", "quoteMaxSize": "99999999", "baseIncrement": "0.00000001",
                "quoteIncrement": "0.000001", "priceIncrement": "0.1", "enableTrading": True,
            }]  # fmt: skip
        elif path == "/api/v1/market/allTickers":
            data = {"time": self.now, "ticker": []}
        elif path == "/api/v1/market/candles":
            rows, step = self.opened(query["type"])
            start, end = 1000 * int(query.get("startAt", "0")), 1000 * int(query["endAt"])
            within = rows[(rows[:, 0] >= start) & (rows[:, 0] < end + int(self.inclusive))]
            data = [self._candle(row, step) for row in within[::-1][: self.page]]
        elif path != "/api/v1/contracts/active":
            return None
        return {"code": "200000", "data": data}

    def _candle(self, row: np.ndarray, step: int) -> list[str]:
        o, h, low, c, volume = self.numbers(row, step)
        return [str(int(row[0]) // 1000), o, c, h, low, volume, "1"]
