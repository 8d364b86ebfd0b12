"""`ares load` and `ares data repair`: bars from exchanges, with a bar of progress."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ares.ares_launcher import options as opt
from ares.ares_launcher.output import console, emit, guarded, say
from ares.ares_launcher.progress import stage
from ares.core.interrupts import interruptible

if TYPE_CHECKING:
    from ares.market.exchange.download import LoadResult, Step, Watch
    from ares.market.exchange.refetch import RepairResult
    from ares.market.exchange.source import Market

Source = Annotated[
    str,
    typer.Option(
        "--source", help="ccxt: any exchange that it knows; dumps: Binance's bulk files (spot)."
    ),
]
Refetch = Annotated[
    str | None,
    typer.Option("--source", help="ccxt or dumps. Default: where the dataset was loaded from."),
]


def register(app: typer.Typer) -> None:
    """Add `load` to `app`."""
    app.command("load")(guarded(load, resumes=True))


def load(
    symbol: opt.Symbol = None,
    exchange: opt.Exchange = None,
    timeframe: opt.Timeframe = None,
    timerange: opt.Timerange = None,
    source: Source = "ccxt",
    config: opt.ConfigFile = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Fetch bars from an exchange; again: what has come since.

    They go into the dataset store. Interrupt it at any time: the same command goes on from where it stopped.
    """
    from ares.core.errors import DataError
    from ares.market.exchange import download
    from ares.store.workspace import Workspace

    if not (symbol and exchange and timeframe):
        raise DataError(
            "a market needs a symbol, an exchange and a timeframe",
            remedy="For example: --symbol BTC/USDT --exchange binance --timeframe 1h"
            " --timerange 20200101-",
        )
    market = _market(symbol, exchange, timeframe, config)
    with _interruptible(), _progress(f"{symbol} {timeframe}", quiet=as_json) as watch:
        result = download.load(
            Workspace.locate(home), market, source=source, timerange=timerange, watch=watch
        )
    if as_json:
        emit(_facts(market, result))
    else:
        _tell(market, result)


def data_repair(
    symbol: Annotated[str, typer.Option("--symbol", help="As `ares data list` shows it.")],
    timeframe: Annotated[str, typer.Option("--timeframe", help="Length of a bar.")],
    exchange: Annotated[str, typer.Option("--exchange", help="Name of the exchange.")] = "local",
    source: Refetch = None,
    config: opt.ConfigFile = None,
    home: opt.Home = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Take damaged files out of a dataset.

    One from an exchange gets them, and its gaps, again.
    """
    from ares.market.exchange.refetch import repair
    from ares.store.workspace import Workspace

    market = _market(symbol, exchange, timeframe, config)
    with _interruptible(), _progress(f"{symbol} {timeframe}", quiet=as_json) as watch:
        result = repair(Workspace.locate(home), market, source=source, watch=watch)
    if as_json:
        emit({**vars(result), "filled": result.filled})
        return
    _tell_repair(result)


def _market(symbol: str, exchange: str, timeframe: str, config: Path | None) -> Market:
    from ares.core.settings import load_settings
    from ares.market.exchange.source import Market

    data = load_settings(config).config.data
    return Market(symbol, exchange, timeframe, data.base_url, data.http_timeout)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends with what to do next; every page that came is kept."""
    from ares.core.errors import InterruptedRunError

    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; what was fetched is kept", remedy="Run the same command to go on."
        ) from None


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Watch | None]:
    """Watch of a download: a bar on a terminal, a line every ten seconds elsewhere."""
    shown = console(stderr=True)
    if quiet:
        yield None
    elif shown.is_terminal:
        with stage(f"Asking for {what}"):
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=shown,
            transient=True,
        )
        with bar:
            yield _Shown(bar, what)
    else:
        yield _Lines(shown, what)


class _Facts:
    """Bars, date reached and rate of the steps that it is told of."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def text(self, step: Step) -> str:
        if step.waiting:
            return step.waiting
        rate = step.bars / max(time.monotonic() - self._began, 1e-3)
        return f"{step.bars:,} bars, at {_day(step.reached)}, {rate:,.0f} bars/s"


class _Shown(_Facts):
    """A bar on a terminal."""

    def __init__(self, bar: Any, what: str) -> None:
        super().__init__()
        self._bar, self._task = bar, bar.add_task(what, total=None, facts="asking the exchange")

    def __call__(self, step: Step) -> None:
        self._bar.update(
            self._task,
            total=max(step.stop - step.start, 1) if step.stop else None,
            completed=step.reached - step.start,
            facts=self.text(step),
        )


class _Lines(_Facts):
    """A line every ten seconds, and one for each attempt that failed."""

    def __init__(self, shown: Any, what: str) -> None:
        super().__init__()
        self._shown, self._what, self._last = shown, what, time.monotonic()

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last >= 10 or step.waiting:
            self._last = now
            self._shown.print(
                f"{self._what}: {self.text(step)}", highlight=False, markup=False, soft_wrap=True
            )


def _facts(market: Market, result: LoadResult) -> dict[str, object]:
    named = {name: getattr(market, name) for name in ("symbol", "exchange", "timeframe")}
    quality = None if result.quality is None else result.quality.to_dict()
    return {**named, **vars(result), "added": result.added, "quality": quality}


def _tell(market: Market, result: LoadResult) -> None:
    if result.quality is not None:
        for line in result.quality.lines()[2:]:
            say(line)
    if result.changed:
        say(
            f"{result.before:,} bars before, {result.after:,} now: {result.added:,} added,"
            f" {result.revised:,} revised by the exchange, {result.dropped:,} dropped as bad prints."
        )
    else:
        say(f"Nothing new; {result.after:,} bars.")
    say(
        f"{result.first} to {result.last}; {result.gaps:,} gaps, {result.missing_bars:,} bars missing."
    )
    if result.asked:
        lacks = (
            f" The exchange does not have {result.absent:,} bars of it." if result.absent else ""
        )
        say(f"Asked for {result.asked}.{lacks}")
    if result.bare_from:
        say(
            f"Asked for bars from {result.bare_from} on, but the exchange sent none before"
            f" {result.first}: it has no older ones, or gives out its newest only."
        )
    if result.older:
        longer, since = result.older
        say(
            f"There are older ones (bars of {longer} since {since}), but of {market.timeframe} this"
            f" exchange gives out its newest only; `ares import` takes older ones from files."
        )
    say(f"Kept in {result.path}")
    if result.gaps:
        say("Intervals in which nobody traded have no bar; `ares data repair` asks again for gaps.")
    names = (
        f"--symbol {shlex.quote(market.symbol)} --exchange {market.exchange}"
        f" --timeframe {market.timeframe}"
    )
    say(f"Next: ares train {names}")


def _tell_repair(result: RepairResult) -> None:
    if result.removed:
        say(f"Taken out: {', '.join(result.removed)}.")
    if result.source is None:
        say("Import the files again." if result.removed else "Nothing is damaged.")
        return
    if result.filled or result.revised:
        say(
            f"{result.filled:,} bars fetched again, {result.revised:,} revised; {result.after:,} in {result.path}"
        )
    else:
        say(f"The exchange has nothing for what is missing; {result.after:,} bars in {result.path}")
    if result.absent:
        say(f"The exchange does not have {result.absent:,} bars that the calendar expects.")


def _day(time_ms: int) -> str:
    from ares.market.quality import time_text

    return (time_text(time_ms * 1_000_000) or "-")[:10]
