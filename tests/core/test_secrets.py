"""A registered secret leaves no text in any of the forms that a secret takes on its way."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.core import secrets
from ares.core.secrets import MIN_LENGTH, RedactedRecords, redact, register_secret

FORMS = [
    lambda s: s,
    lambda s: quote(s, safe=""),
    quote_plus,
    lambda s: quote(s, safe="").lower(),
    lambda s: s.encode().hex(),
    json.dumps,
    repr,
]


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    secrets._secrets.clear()
    secrets._pattern.cache_clear()


@given(st.text(st.characters(codec="utf-8"), min_size=MIN_LENGTH, max_size=40), st.text(max_size=9))
def test_no_form_of_a_secret_passes(secret: str, around: str) -> None:
    register_secret(secret)
    for form in FORMS:
        assert form(secret).strip("'\"") not in redact(f"<{form(secret)}>")
    secrets._secrets.clear()
    secrets._pattern.cache_clear()


@given(st.binary(max_size=7), st.binary(max_size=7))
def test_no_base64_around_a_secret_passes(before: bytes, after: bytes) -> None:
    secret = "CANARY-5f1d0c7be2"
    register_secret(secret)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redact(encode(before + secret.encode() + after).decode())
        assert "[secret]" in shown
        assert len(shown) < len(encode(before + after)) + 16


def test_texts_without_secrets_stay_as_they_are() -> None:
    assert redact("price 100") == "price 100"
    register_secret("CANARY-5f1d0c7be2")
    assert redact("price 100") == "price 100"
    with pytest.raises(ValueError, match="at least"):
        register_secret("short")


def test_records_of_a_logger_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    register_secret("CANARY-5f1d0c7be2")
    logger = logging.getLogger("test.redacted")
    hidden = RedactedRecords()
    logger.addFilter(hidden)
    with caplog.at_level(logging.DEBUG):
        logger.debug("headers %s", {"X-KEY": "CANARY-5f1d0c7be2"})
    assert "CANARY" not in caplog.text
    assert "X-KEY" in caplog.text
    logger.removeFilter(hidden)
