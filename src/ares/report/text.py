"""Values as safe, readable text: everything is escaped, and what is undefined is a dash."""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

DASH: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class Html(str):
    """Markup that is safe already; every other value is escaped."""

    __slots__ = ()


def clean(value: object) -> str:
    """Text without control characters and lone surrogates, which no page may contain."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def esc(value: object) -> Html:
    """`value` as markup: unchanged where it is markup, else escaped."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(clean(value), quote=True))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """The parts, each escaped unless it is markup."""
    return Html(separator.join(esc(part) for part in parts))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """An element; content and attribute values are escaped, `class_` is the class."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{esc(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{join(content)}</{name}>")


def number_of(value: Any) -> float | None:
    """A finite float, or None."""
    if value is None or isinstance(value, str):
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def num(value: Any, digits: int = 2) -> str:
    """A number with `digits` decimals; beyond 15 digits before them with an exponent."""
    found = number_of(value)
    if found is None:
        return DASH
    return _signed(f"{found:,.{digits}f}" if abs(found) < 1e15 else f"{found:.3g}")


def short(value: Any, digits: int = 4, *, zeros: bool = False) -> str:
    """A number with `digits` significant digits; with `zeros` the last ones are shown, too."""
    found = number_of(value)
    if found is None:
        return DASH
    return _signed(f"{found:#.{digits}g}".rstrip(".") if zeros else f"{found:.{digits}g}")


def pct(value: Any, digits: int = 1, *, sign: bool = False) -> str:
    """A share in per cent, with a plus sign where asked for."""
    found = number_of(value)
    if found is None:
        return DASH
    text = num(100.0 * found, digits) + " %"
    return f"+{text}" if sign and found > 0 and not text.startswith(MINUS) else text


def cut(value: Any, digits: int = 3) -> str:
    """A number cut after `digits` decimals: what is below a threshold never reads as at it."""
    found = number_of(value)
    return DASH if found is None else num(math.floor(found * 10**digits) / 10**digits, digits)


def whole(value: Any) -> str:
    """A count."""
    return num(value, 0)


def p_value(value: Any) -> str:
    """A probability with four decimals; never rounded to zero."""
    found = number_of(value)
    if found is None:
        return DASH
    return "< 0.0001" if 0.0 <= found < 1e-4 else f"{found:.4f}"


def size(value: Any) -> str:
    """Bytes in binary units."""
    found = number_of(value)
    if found is None:
        return DASH
    power = 0
    while abs(found) >= 1024.0 and power < len(_UNITS) - 1:
        found, power = found / 1024.0, power + 1
    return f"{found:.{0 if power < 2 else 1}f} {_UNITS[power]}"


def seconds(value: Any) -> str:
    """A duration."""
    found = number_of(value)
    if found is None:
        return DASH
    if found < 120.0:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def day(value: object) -> str:
    """The date of an ISO time stamp."""
    return DASH if value is None else str(value)[:10]


def plain(value: object) -> str:
    """Any parameter or setting: numbers short, the rest as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return short(value, 5)
    return DASH if value is None else clean(value)


def plural(count: Any, noun: str, many: str = "") -> str:
    """The count and its noun."""
    return f"{whole(count)} {noun if number_of(count) == 1 else many or noun + 's'}"


def _signed(text: str) -> str:
    if text.startswith("-"):
        bare = text[1:]
        return bare if not any(c in "123456789" for c in bare.split("e", 1)[0]) else MINUS + bare
    return text
