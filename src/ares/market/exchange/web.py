"""Files over HTTP: time limits, size limits, no redirects."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from ares.core.errors import DataError
from ares.market.exchange.retry import TransientError, http_time, retry_after

if TYPE_CHECKING:
    from email.message import Message

_CHUNK: Final = 1 << 16
_PATIENCE: Final = 15
"""A whole file may take that many times the limit for silence."""
_TRANSIENT: Final = frozenset({408, 418, 425, 429})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is not followed arrives as an error with its status."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""


@dataclass
class Web:
    """Fetches files from one server.

    Attributes:
        timeout: Seconds of silence after which a request has failed.
        now: Unix time in seconds by the server's last answer; None before one.
    """

    timeout: float
    now: float | None = None

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(_NoRedirects())

    def fetch(self, url: str, into: BinaryIO, *, max_bytes: int) -> bool:
        """Write the file at `url` into `into`; False where there is none (404).

        Raises:
            TransientError: What may pass by itself.
            DataError: It is too large, redirected or refused.
        """
        deadline = time.monotonic() + _PATIENCE * self.timeout
        into.seek(0)
        into.truncate()
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "ares"})  # noqa: S310  # http(s) only, see DataConfig.base_url
            with self._opener.open(request, timeout=self.timeout) as response:
                self._note_time(response.headers)
                _copy(response, into, max_bytes, deadline, url)
        except urllib.error.HTTPError as error:
            with error:
                self._note_time(error.headers)
                return _refused(error, url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise DataError(
                    "the server's certificate must be valid",
                    where=url,
                    value=str(reason),
                    remedy="Check the clock of this machine, data.base_url and proxies.",
                ) from None
            raise TransientError(f"{type(reason).__name__}: {str(reason)[:120]}") from None
        return True

    def _note_time(self, headers: Message) -> None:
        self.now = http_time(headers.get("Date")) or self.now


def _copy(
    response: http.client.HTTPResponse, into: BinaryIO, max_bytes: int, deadline: float, url: str
) -> None:
    received = 0
    while chunk := response.read1(_CHUNK):
        received += len(chunk)
        if received > max_bytes:
            raise DataError(
                f"the file may have {max_bytes} bytes",
                where=url,
                remedy="Check data.base_url: this is no file of bars.",
            )
        if time.monotonic() > deadline:
            raise TransientError("the file comes too slowly")
        into.write(chunk)
    expected = response.headers.get("Content-Length", "")
    if expected.isdigit() and int(expected) != received:
        raise TransientError(f"the answer was cut after {received} of {expected} bytes")
    into.flush()


def _refused(error: urllib.error.HTTPError, url: str) -> bool:
    """False for a file that is not there."""
    if error.code == 404:
        return False
    if 300 <= error.code < 400:
        raise DataError(
            "the server answers with a redirect, which is not followed",
            where=url,
            value=(error.headers.get("Location") or "")[:160],
            remedy="If you trust that address, set data.base_url to it.",
        ) from None
    if error.code >= 500 or error.code in _TRANSIENT:
        wait = retry_after(error.headers.get("Retry-After"), error.headers.get("Date"))
        raise TransientError(f"status {error.code}", wait) from None
    raise DataError(
        "the server refuses",
        where=url,
        value=f"status {error.code}",
        remedy="Check data.base_url, and whether the server serves your country.",
    ) from None
