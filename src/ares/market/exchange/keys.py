"""API keys: from the environment or a keyring file that nobody else can read. None are needed.

ARES_BINANCE_API_KEY, ARES_BINANCE_SECRET      win over
~/.config/ares/keyring.toml (or ARES_KEYRING)  [binance] with api_key and secret, mode 600
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from ares.core.errors import ConfigError
from ares.core.secrets import MIN_LENGTH, register_secret

KEYRING_VARIABLE: Final = "ARES_KEYRING"
_MAX_BYTES: Final = 1 << 16
_FORM: Final = 'Write a section per exchange: [binance], api_key = "...", secret = "...".'


@dataclass(frozen=True)
class Keys:
    """What an exchange gave its customer."""

    key: SecretStr
    secret: SecretStr


def find_keys(exchange: str, environ: Mapping[str, str] | None = None) -> Keys | None:
    """The keys of an exchange, or None; both are registered as secrets of this process.

    Raises:
        ConfigError: One of the two is missing or too short, or the keyring can be read by others.
    """
    given = os.environ if environ is None else environ
    stem = f"ARES_{exchange.upper()}"
    names = (f"{stem}_API_KEY", f"{stem}_SECRET")
    pair: list[object] = [given.get(name, "") for name in names]
    if not any(pair):
        path = _keyring_path(given)
        section = _read_keyring(path).get(exchange) if path is not None else None
        if section is None:
            return None
        if not isinstance(section, Mapping):
            raise ConfigError("an exchange is a section", where=f"{path}: {exchange}", remedy=_FORM)
        names = (f"{path}: {exchange}.api_key", f"{path}: {exchange}.secret")
        pair = [section.get("api_key", ""), section.get("secret", "")]
    for name, value in zip(names, pair, strict=True):
        if not isinstance(value, str) or len(value.strip()) < MIN_LENGTH:
            raise ConfigError(
                f"a key and its secret come together, with at least {MIN_LENGTH} characters each",
                where=name,
                remedy="Set both or none.",
            )
    key, secret = (str(value).strip() for value in pair)
    register_secret(key)
    register_secret(secret)
    return Keys(SecretStr(key), SecretStr(secret))


def _keyring_path(environ: Mapping[str, str]) -> Path | None:
    """The keyring file; None where the default one does not exist."""
    if named := environ.get(KEYRING_VARIABLE):
        return Path(named).expanduser()
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(base).expanduser() / "ares" / "keyring.toml"
    return path if path.exists() else None


def _read_keyring(path: Path) -> Mapping[str, Any]:
    """All sections of the file; what an error shows is never its content."""
    where = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(
                    "the keyring must be a regular file", where=where, remedy="Name a file."
                )
            if stat.S_IMODE(status.st_mode) != 0o600 or status.st_uid != os.geteuid():
                raise ConfigError(
                    "the keyring must be yours, and nobody else may read it",
                    where=where,
                    value=f"mode {stat.S_IMODE(status.st_mode):o}",
                    remedy=f"chmod 600 {where}",
                )
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            "the keyring must be readable",
            where=where,
            value=error.strerror,
            remedy="Change its permissions or its path.",
        ) from None
    if len(text) > _MAX_BYTES:
        raise ConfigError(
            f"the keyring may have {_MAX_BYTES} bytes",
            where=where,
            remedy="Is this the right file?",
        )
    try:
        return tomllib.loads(text.decode())
    except ValueError:
        raise ConfigError("the keyring must be TOML", where=where, remedy=_FORM) from None
