"""Exchanges of other habits than Binance's, on the loopback address: Kraken, Coinbase and OKX."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from exchange_server import MINUTE, Exchange


@dataclass
class Other(Exchange):
    """What the three have in common. Bars are those of BTC/USD, one a minute, or days of them.

    Attributes:
        exchange: Its id.
        market_id: Its name of the market.
    """

    exchange: ClassVar[str]
    market_id: ClassVar[str]

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        tree = self.tree_of(path, {name: values[0] for name, values in query.items()})
        if tree is None:
            return 404, b'{"error":"no such path"}'
        return (400 if "error_details" in tree else 200), json.dumps(tree).encode()

    def tree_of(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        raise NotImplementedError

    def opened(self, interval: str) -> tuple[np.ndarray, int]:
        """Rows that have opened, the last one unfinished, and their length in ms."""
        rows = self._rows(self.market_id, interval)
        assert rows is not None
        return rows[rows[:, 0] <= self.now], MINUTE if interval == "1m" else 1440 * MINUTE

    def numbers(self, row: np.ndarray, step: int) -> list[str]:
        """Open, high, low, close and volume as text; of the open bar as they are so far."""
        return [str(x) for x in self._kline(row, step)[1:6]]


@dataclass
class Kraken(Other):
    """`since` and whatever is asked: the newest 720 bars only, the open one among them always."""

    page: int = 720
    exchange = "kraken"
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
            rows, step = self.opened("1m" if query["interval"] == "1" else "1d")
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
            rows, step = self.opened("1m" if query["granularity"] == "ONE_MINUTE" else "1d")
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
            rows, step = self.opened("1m" if query["bar"] == "1m" else "1d")
            before, after = int(query.get("before", "0")), int(query.get("after", self.now + 1))
            within = rows[(rows[:, 0] > before) & (rows[:, 0] < after)]
            newest = within[::-1][: min(int(query.get("limit", "100")), self.page)]
            return {"code": "0", "data": [
                [str(int(row[0])), *self.numbers(row, step), "1", "1", str(int(row[0] + step <= self.now))]
                for row in newest
            ]}  # fmt: skip
        return None
