"""Where things are: one workspace folder holds the runs, the data and the private state.

    <home>/runs/                        finished runs
    <home>/data/                        datasets
    <home>/.ares/store/                 the store
    <home>/.ares/{cache,history}.sqlite
    <home>/.ares/work/<request digest>/ unfinished runs

A symbol is never used as a folder name: folders carry a readable part and a hash of the symbol.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ares.core.errors import ConfigError, InputError, StoreError
from ares.store.atomic import make_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "ARES_HOME"
_SYMBOL: Final = re.compile(r"[A-Za-z0-9^][A-Za-z0-9._:/^=@+-]{0,39}")
_EXCHANGE: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
_TIMEFRAME: Final = re.compile(r"[1-9][0-9]{0,3}[mhdw]")
_DIGEST: Final = re.compile(r"[0-9a-f]{8,128}")
_RESERVED: Final = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
_SLUG_LENGTH: Final = 32
_HASH_LENGTH: Final = 12


def check_symbol(symbol: str, *, where: str = "symbol") -> str:
    """`symbol` itself, if it is one.

    Allowed are 1 to 40 ASCII letters, digits and `. _ : / ^ = @ + -`, starting with a letter, digit
    or `^`, without `..`.

    Raises:
        InputError: anything else.
    """
    if not _SYMBOL.fullmatch(symbol) or ".." in symbol:
        raise InputError(
            "such a name has 1 to 40 ASCII letters, digits or . _ : / ^ = @ + -, starts with"
            " a letter, digit or ^, and has no '..'",
            value=symbol,
            where=where,
            remedy="For example BTC/USDT, or binance for an exchange.",
        )
    return symbol


def safe_name(symbol: str) -> str:
    """Folder name for any text: a readable slug, `-` and 12 hexadecimal digits of its SHA-256.

    Only lower-case ASCII letters, digits and single `-` occur, at most 45 characters. Different
    texts get different names (up to collisions of the hash), also where case does not count.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", symbol[:200].lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(symbol.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{slug or 'x'}-{digest}"


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace; making the object touches no file.

    Args:
        home: The workspace folder, absolute.
    """

    home: Path

    @staticmethod
    def locate(
        home: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        cwd: Path | None = None,
    ) -> Workspace:
        """The workspace at `home`, else at `ARES_HOME` of `environ`, else at `cwd`.

        Empty values count as absent; `~` is expanded; `environ` defaults to the process's
        environment and `cwd` to the working folder.

        Raises:
            ConfigError: the folder's name cannot be one, or a file is there.
        """
        named = (os.environ if environ is None else environ).get(VARIABLE)
        text = os.fspath(home or named or "")
        where = "--home" if home else VARIABLE
        base = Path.cwd() if cwd is None else cwd
        try:
            path = (base / Path(text).expanduser()).resolve()
            usable = next(p for p in (path, *path.parents) if p.exists()).is_dir()
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                "the workspace must be a folder name",
                value=text,
                where=where,
                remedy="Name a folder with --home or ARES_HOME.",
            ) from error
        if not usable:
            raise ConfigError(
                "the workspace must be a folder",
                value=str(path),
                where=where,
                remedy="Name a folder with --home or ARES_HOME.",
            )
        return Workspace(path)

    @property
    def runs(self) -> Path:
        """Finished runs."""
        return self.home / "runs"

    @property
    def data(self) -> Path:
        """Datasets."""
        return self.home / "data"

    @property
    def private(self) -> Path:
        """State that only Ares reads."""
        return self.home / ".ares"

    @property
    def store(self) -> Path:
        """Root folder of the content-addressed store."""
        return self.private / "store"

    @property
    def cache_db(self) -> Path:
        """Database of cached backtests."""
        return self.private / "cache.sqlite"

    @property
    def history_db(self) -> Path:
        """Database of what was validated and of holdout looks."""
        return self.private / "history.sqlite"

    def work(self, request_digest: str) -> Path:
        """Folder of the unfinished run of a request.

        Raises:
            InputError: `request_digest` is not 8 to 128 hexadecimal digits.
        """
        if not _DIGEST.fullmatch(request_digest):
            raise InputError(
                "a request digest has 8 to 128 hex digits",
                value=request_digest,
                remedy="It is the digest of a configuration and its data.",
            )
        return self.private / "work" / request_digest

    def dataset(self, exchange: str, symbol: str, timeframe: str) -> Path:
        """Folder of one dataset: `data/<exchange>/<safe symbol>/<timeframe>`.

        Raises:
            InputError: a part is empty or has characters that no such name has.
        """
        check_symbol(symbol)
        check_symbol(exchange, where="exchange")
        if not _TIMEFRAME.fullmatch(timeframe):
            raise InputError(
                "a timeframe is a number and m, h, d or w",
                value=timeframe,
                remedy="For example 1m, 4h or 1d.",
            )
        plain = _EXCHANGE.fullmatch(exchange) and not _RESERVED.fullmatch(exchange)
        folder = exchange if plain else safe_name(exchange)
        return self.data / folder / safe_name(symbol) / timeframe

    def create(self) -> None:
        """Make the workspace's folders.

        Raises:
            StoreError: they cannot be made.
        """
        try:
            for folder in (self.runs, self.data, self.store):
                make_folder(folder)
        except OSError as error:
            raise StoreError(
                "the workspace must be writable",
                value=error.strerror,
                where=str(self.home),
                remedy="Choose another folder with --home.",
            ) from error
