"""The sources by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ares.core.errors import ConfigError

if TYPE_CHECKING:
    from ares.market.exchange.retry import Retry
    from ares.market.exchange.source import Market, Source

SOURCES: Final = ("ccxt", "dumps")


def open_source(name: str, market: Market, retry: Retry) -> Source:
    """The source of that name; ccxt is imported only here.

    Raises:
        ConfigError: There is no such source, or it does not have this market.
        DataError: The exchange refuses.
        OutageError: It does not answer.
    """
    if name == "ccxt":
        from ares.market.exchange.ccxt_source import CcxtSource

        return CcxtSource(market, retry)
    if name == "dumps":
        from ares.market.exchange.dumps import DumpSource

        return DumpSource(market, retry)
    raise ConfigError(f"must be one of {', '.join(SOURCES)}", value=name, where="--source")
