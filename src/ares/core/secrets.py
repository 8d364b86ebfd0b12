"""Secrets of this process, and their removal from every text that leaves it.

Whoever learns a secret registers it once; whoever formats a text for people, logs or files calls
`redact` on the finished text. Names of keys are not looked at: a nested value, an exception or a
server's answer may hold the secret under any name, so its value is what is looked for.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import re
from typing import Final
from urllib.parse import quote, quote_plus

MIN_LENGTH: Final = 8
"""Shorter texts cannot be told from ordinary words, so they are no secrets."""

_MASK: Final = "[secret]"
# What this process has to keep to itself; a process-wide list is the purpose.
_secrets: set[str] = set()


def register_secret(value: str) -> None:
    """Have `value` removed from all that is said from now on.

    Raises:
        ValueError: It is shorter than `MIN_LENGTH` characters.
    """
    if len(value) < MIN_LENGTH:
        raise ValueError(f"a secret has at least {MIN_LENGTH} characters")
    _secrets.add(value)
    _pattern.cache_clear()


def redact(text: str) -> str:
    """`text` without any registered secret: as it is, URL-encoded, escaped, in hex or base64."""
    if not _secrets:
        return text
    return _pattern().sub(_MASK, text)


class RedactedRecords(logging.Filter):
    """Redacts the records of one logger, for libraries that write down what they send."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, rendered and redacted."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True


@functools.cache
def _pattern() -> re.Pattern[str]:
    forms = {form for secret in _secrets for form in _forms(secret)}
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(re.escape(form) for form in longest_first), re.IGNORECASE)


def _forms(secret: str) -> set[str]:
    """How a secret can stand in a text."""
    raw = secret.encode()
    plain = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    coded = {raw.hex(), repr(secret)[1:-1]}
    for offset in range(3):  # inside a longer base64 text it may start at any of three places
        head = (0, 2, 3)[offset]
        whole = base64.b64encode(b"\0" * offset + raw).decode()
        tail = (len(raw) + offset) % 3  # the last digits also depend on what follows
        inner = whole[head : len(whole) - 4 if tail else None].rstrip("=")
        coded |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in plain | coded if len(form) >= MIN_LENGTH - 2}
