"""Progress of a run: bars on a terminal, one plain line per step elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ares.ares_launcher.output import console, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ares.enhanced_training_manager import Observer
    from ares.market.stored.rows import Progress
    from ares.pipeline.step import StepRecord


@contextmanager
def watched(*, quiet: bool) -> Iterator[Observer]:
    """Observer that shows progress on standard error."""
    shown = console(stderr=True)
    if not quiet and shown.is_terminal:
        with stage("Starting"):
            from ares.enhanced_training_manager import Observer
        bars = _Bars(shown)
        with bars.progress:
            yield Observer(bars.started, bars.ended, bars.advanced)
        return
    from ares.enhanced_training_manager import Observer

    yield Observer() if quiet else Observer(step_ended=lambda record: _line(shown, record))


@contextmanager
def stage(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Say on a terminal what is being done while it is; elsewhere nothing."""
    shown = console(stderr=True)
    if quiet or not shown.is_terminal:
        yield
        return
    with shown.status(f"{text} ..."):
        yield


@contextmanager
def rows_bar(text: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """Show on a terminal how many rows are done, how fast, and the time left; elsewhere nothing."""
    shown = console(stderr=True)
    if quiet or not shown.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Bars(*columns, console=shown, transient=True) as bars:
        task = bars.add_task(text, total=None, rows="")

        def progress(done: int, total: int | None) -> None:
            speed = bars.tasks[0].speed
            rate = f", {speed:,.0f}/s" if speed else ""
            bars.update(task, completed=done, total=total, rows=f"{done:,} rows{rate}")

        yield progress


def _line(shown: Any, record: StepRecord) -> None:
    scope = f"{record.scope}, " if record.scope else ""
    how = "kept" if record.cached else f"{record.seconds:.2f} s"
    peak = size(record.peak_memory_bytes)
    shown.print(f"{scope}step {record.number:2d} {record.name}: {how}, {peak}", highlight=False)


class _Bars:
    """One bar over the sixteen steps and one for what the current step does."""

    def __init__(self, shown: Any) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._console = shown
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=shown,
            transient=True,
        )
        self._steps = self.progress.add_task("steps", total=16)
        self._inner = self.progress.add_task("", total=None, visible=False)

    def started(self, step: int, name: str, scope: str) -> None:
        if scope:
            self.progress.update(
                self._inner,
                description=f"{scope}: {name}",
                completed=step - 1,
                total=12,
                visible=True,
            )
        else:
            self.progress.update(self._steps, description=f"{step:2d} {name}", completed=step - 1)
            self.progress.update(self._inner, visible=False)

    def ended(self, record: StepRecord) -> None:
        if not record.scope:
            _line(self._console, record)
            self.progress.update(self._steps, completed=record.number)

    def advanced(self, what: str, done: int, total: int) -> None:
        self.progress.update(
            self._inner, description=what, completed=done, total=total, visible=True
        )
