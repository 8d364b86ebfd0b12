"""Feature matrices that were computed ahead, found by the bars' content and the features' names.

Features obey `f(bars[:k]) == f(bars)[:k]` bit for bit, so one matrix serves all prefixes of its
bars: a prefix is kept as the digest of the whole and its length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ares.learn.features import compute_features, kept_under
from ares.store.memo import MISS

if TYPE_CHECKING:
    from ares.learn.track import Track
    from ares.market.bars import Bars
    from ares.store.memo import Memo


@dataclass(frozen=True)
class KeptFeatures:
    """What is kept of one track on some bars.

    Attributes:
        track: Name of the track.
        timeframe: Timeframe of its bars.
        rows: Its bars.
        columns: Features.
        nbytes: Bytes of the matrix; 0 for a prefix of another one.
        made: Whether it was computed now; False: it was there.
    """

    track: str
    timeframe: str
    rows: int
    columns: int
    nbytes: int
    made: bool


def keep_features(memo: Memo, bars: Bars, track: Track, whole: Bars | None = None) -> KeptFeatures:
    """Keep the features of a track on its bars, where they are not kept yet.

    Args:
        memo: Where to.
        bars: Bars of the track's timeframe.
        track: The track.
        whole: Bars whose features are kept, of which these may be the first.

    Raises:
        StoreError: the store cannot be written.
    """
    names = track.features
    key = kept_under(bars.digest, names, track.max_gap)
    known = memo.get(*key) is not MISS
    nbytes = 8 * len(bars) * len(names)
    if whole is not None and whole[: len(bars)].digest == bars.digest:
        nbytes = 0
        if not known:
            prefix = {"whole": whole.digest, "rows": len(bars)}
            memo.remember(prefix, *key)
    elif not known:
        found = compute_features(bars, names, max_gap=track.max_gap)
        memo.remember(found, *key)
    return KeptFeatures(track.name, track.timeframe, len(bars), len(names), nbytes, not known)
