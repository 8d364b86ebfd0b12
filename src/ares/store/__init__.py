"""Durable state: the commit primitive, value codecs, the content-addressed store, runs."""

from ares.store.codecs import decode, encode, register
from ares.store.store import MISS, Store
from ares.store.workspace import Workspace, check_symbol, safe_name

__all__ = [
    "MISS",
    "Store",
    "Workspace",
    "check_symbol",
    "decode",
    "encode",
    "register",
    "safe_name",
]
