"""The log of one run: a JSON object per line, of everything logged under `ares`."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import TYPE_CHECKING, TextIO

from ares.core.secrets import redact

if TYPE_CHECKING:
    from pathlib import Path


class RunLog(logging.Handler):
    """Writes log records to a file while it is open; a run that resumes appends.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._file: TextIO | None = None
        self._level_before = logging.NOTSET

    def open(self) -> None:
        """Begin to listen."""
        self._file = self._path.open("a", encoding="utf-8")
        logger = logging.getLogger("ares")
        self._level_before = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def close(self) -> None:
        """Stop listening."""
        logger = logging.getLogger("ares")
        if self._file is not None:
            logger.removeHandler(self)
            logger.setLevel(self._level_before)
            self._file.close()
            self._file = None
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if self._file is None:
            return
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        self._file.write(redact(json.dumps(line, ensure_ascii=True)) + "\n")
        self._file.flush()
