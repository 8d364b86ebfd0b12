"""The ccxt object of one exchange: quiet, without private calls, at whatever address it is to ask."""

from __future__ import annotations

import difflib
import logging
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from ares.core.errors import ConfigError
from ares.core.secrets import RedactedRecords
from ares.market.exchange.keys import find_keys
from ares.market.timeframe import TIMEFRAMES

if TYPE_CHECKING:
    from ares.market.exchange.keys import Keys
    from ares.market.exchange.source import Market

_log = logging.getLogger("ares.market.exchange")

_LOOPBACK: Final = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)")


def keys_for(market: Market) -> Keys | None:
    """The keys of an exchange; none where its address is somebody else's.

    Raises:
        ConfigError: As `find_keys`.
    """
    keys = find_keys(market.exchange)
    if keys is not None and market.base_url is not None and not _LOOPBACK.match(market.base_url):
        _log.warning("API keys stay here: data.base_url is not the exchange's own address")
        return None
    return keys


def ccxt_exchange(market: Market) -> Any:
    """The ccxt object of the market's exchange.

    Raises:
        ConfigError: ccxt is not installed, or knows no such exchange or timeframe.
    """
    try:
        import ccxt
    except ImportError:
        raise ConfigError(
            "bars of exchanges need the package ccxt",
            where="--source ccxt",
            remedy="Install the extra `exchange`: pip install 'ares-trainer[exchange]'.",
        ) from None
    if market.exchange not in ccxt.exchanges:
        near = difflib.get_close_matches(market.exchange.lower(), ccxt.exchanges, 1)
        raise ConfigError(
            "ccxt knows no such exchange",
            value=market.exchange,
            where="--exchange",
            remedy=f"Did you mean {near[0]}?" if near else "Its ids are lower-case: binance.",
        )
    options = {"enableRateLimit": True, "timeout": int(1000 * market.timeout)}
    api = getattr(ccxt, market.exchange)(options)
    _check_klines(api, market)
    api.has["fetchCurrencies"] = False  # a private call on some exchanges, and no use here
    api.enableLastJsonResponse = True
    api.session.trust_env = True  # proxies and certificates as this machine has them
    api.session.max_redirects = 0  # keys must not travel to another server
    if not any(isinstance(f, RedactedRecords) for f in api.logger.filters):
        api.logger.addFilter(RedactedRecords())
    if market.base_url is not None:
        api.urls["api"] = _moved(api.urls["api"], market.base_url)
    return api


def _check_klines(api: Any, market: Market) -> None:
    if api.has.get("fetchOHLCV") is not True:
        raise ConfigError(
            "this exchange has no bars",
            value=market.exchange,
            where="--exchange",
            remedy="Take another exchange, or import files: `ares import`.",
        )
    known = [name for name in TIMEFRAMES if name in (api.timeframes or {})]
    if market.timeframe not in known:
        raise ConfigError(
            f"{market.exchange} has bars of {', '.join(known)}",
            value=market.timeframe,
            where="--timeframe",
            remedy="Load a finer one and resample it.",
        )


def _moved(urls: Any, base: str) -> Any:
    """Addresses at another server, their paths behind that server's."""
    if isinstance(urls, dict):
        return {name: _moved(inner, base) for name, inner in urls.items()}
    if not isinstance(urls, str):
        return urls
    own, new = urlsplit(urls), urlsplit(base)
    path = new.path.rstrip("/") + own.path
    return urlunsplit((new.scheme, new.netloc, path, own.query, own.fragment))
