"""Samplers by name: what `search.sampler` can be, and the one surface they share."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from ares.core.errors import ConfigError, InputError
from ares.core.identity import seed_for
from ares.search.adaptive import AdaptiveSampler
from ares.search.objective import Score
from ares.search.sampling.coordinates import Coordinates, Key
from ares.search.sampling.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ares.backtest.space import ParameterSpace
    from ares.core.config import SearchConfig

_log = logging.getLogger("ares.search")

_TRIES: Final = 64  # trials asked of Optuna for one new, feasible point


class Sampler(Protocol):
    """Whatever a study can ask and tell. The same seed, asks and tells give the same points."""

    fallbacks: list[str]

    @property
    def exhausted(self) -> bool:
        """Whether new feasible points could no longer be found."""
        ...

    @property
    def batch(self) -> int:
        """How many points to ask together next: one generation."""
        ...

    def ask(self, n: int) -> list[dict[str, Any]]:
        """The next `n` points; new ones as long as the space has any."""
        ...

    def tell(self, points: Sequence[Mapping[str, Any]], scores: Sequence[float | Score]) -> None:
        """Tell scores; the order within a generation is irrelevant."""
        ...


def sampler_of(config: SearchConfig, space: ParameterSpace, seed: int) -> Sampler:
    """The sampler that `config.sampler` names.

    Raises:
        ConfigError: Optuna is not installed.
    """
    match config.sampler:
        case "adaptive":
            return AdaptiveSampler(
                config.initial_samples, space=space, seed=seed, generation=config.generation
            )
        case "sobol" | "random":
            return DrawnSampler(space, seed, config.sampler, config.generation)
        case _:
            return OptunaSampler(
                space, seed, config.sampler, config.initial_samples, config.generation
            )


def sampler_version(config: SearchConfig) -> str:
    """Version of the library behind the sampler, which shapes what it asks; "" for our own.

    Raises:
        ConfigError: Optuna is not installed.
    """
    if not config.sampler.startswith("optuna"):
        return ""
    _optuna(config.sampler)
    return "optuna " + importlib.metadata.version("optuna")


class DrawnSampler:
    """Points that need no scores: "sobol" or "random"."""

    def __init__(self, space: ParameterSpace, seed: int, kind: Any, generation: int = 16) -> None:
        self.batch = generation
        self.fallbacks: list[str] = []
        self._coordinates = Coordinates(space)
        self._stream = Stream(self._coordinates, seed, kind)
        self._seen: set[bytes | Key] = set()

    @property
    def exhausted(self) -> bool:
        """As `Sampler.exhausted`."""
        return self._stream.exhausted

    def ask(self, n: int) -> list[dict[str, Any]]:
        """As `Sampler.ask`."""
        packed = self._coordinates.packed
        points = []
        for _ in range(n):
            key = self._stream.next(lambda key: packed(key) in self._seen)
            self._seen.add(packed(key))
            points.append(self._coordinates.point(key))
        return points

    def tell(self, points: Sequence[Mapping[str, Any]], scores: Sequence[float | Score]) -> None:
        """Nothing is learnt.

        Raises:
            InputError: as many scores as points are needed.
        """
        _check(points, scores)


class OptunaSampler:
    """Optuna's TPE or CMA-ES after the Sobol points, asked and told by generation.

    Scores that were told go to Optuna in the order of asking when the next point is asked. A point
    that breaks a constraint is told as pruned, one that is known as its score, and another one is
    asked; Sobol points serve where `_TRIES` such trials were in vain. Stopped points are pruned at
    their stage. TPE takes the categories that CMA-ES lacks.

    Args:
        space: What to search.
        seed: Run seed.
        name: "optuna-tpe" or "optuna-cmaes".
        initial_samples: Sobol points before the first of Optuna's.
        generation: Points asked together.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(
        self,
        space: ParameterSpace,
        seed: int,
        name: str,
        initial_samples: int,
        generation: int = 16,
    ) -> None:
        self._optuna = _optuna(name)
        self.batch = generation
        self.fallbacks: list[str] = []
        self._coordinates = Coordinates(space)
        self._name = name
        self._seed = seed_for(seed, name) % 2**32
        self._initial = initial_samples
        self._stream = Stream(self._coordinates, seed)
        self._distributions = _distributions(self._optuna, space)
        self._study: Any = None
        # Points in the order of asking: [trial or None for a Sobol point, score or None].
        self._records: dict[bytes | Key, list[Any]] = {}
        self._untold: deque[tuple[Key, list[Any]]] = deque()

    @property
    def exhausted(self) -> bool:
        """As `Sampler.exhausted`."""
        return self._stream.exhausted

    def ask(self, n: int) -> list[dict[str, Any]]:
        """As `Sampler.ask`."""
        keys: list[Key] = []
        for _ in range(n):
            key, trial = self._next()
            record = [trial, None]
            if self._coordinates.packed(key) not in self._records:
                self._records[self._coordinates.packed(key)] = record
                self._untold.append((key, record))
            keys.append(key)
        return [self._coordinates.point(key) for key in keys]

    def tell(self, points: Sequence[Mapping[str, Any]], scores: Sequence[float | Score]) -> None:
        """As `Sampler.tell`; also of points that were never asked.

        Raises:
            InputError: as many scores as points are needed.
            ParameterError: a point is not of the space.
        """
        _check(points, scores)
        for point, score in zip(points, scores, strict=True):
            key = self._coordinates.key(point)
            packed = self._coordinates.packed(key)
            if packed not in self._records:
                self._records[packed] = [None, None]
                self._untold.append((key, self._records[packed]))
            self._records[packed][1] = score

    def _next(self) -> tuple[Key, Any]:
        packed = self._coordinates.packed
        if len(self._records) >= self._initial and self._coordinates.names:
            study = self._updated()
            for _ in range(_TRIES):
                trial = study.ask(self._distributions)
                key = self._coordinates.key(trial.params)
                known = self._records.get(packed(key))
                if not self._coordinates.feasible(key):
                    study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
                elif known is None:
                    return key, trial
                else:
                    self._finish(trial, known[1])
        return self._stream.next(lambda key: packed(key) in self._records), None

    def _updated(self) -> Any:
        """The study, told all scores of asked points in order."""
        if self._study is None:
            self._study = self._optuna.create_study(direction="maximize", sampler=self._made())
        waiting: deque[tuple[Key, list[Any]]] = deque()
        for key, record in self._untold:
            trial, score = record
            if score is None:
                waiting.append((key, record))
            elif trial is not None:
                self._finish(trial, score)
            else:
                self._add(key, score)
        self._untold = waiting
        return self._study

    def _finish(self, trial: Any, score: float | Score | None) -> None:
        value, stage = _plain(score)
        if stage is not None:
            trial.report(value, stage)
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
        elif score is None or (value == -math.inf and self._name == "optuna-cmaes"):
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, value)

    def _add(self, key: Key, score: float | Score) -> None:
        value, stage = _plain(score)
        state = self._optuna.trial.TrialState
        point = self._coordinates.point(key)
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state.COMPLETE if stage is None else state.PRUNED,
                value=value if stage is None else None,
                intermediate_values={} if stage is None else {stage: value},
                params={name: point[name] for name in self._distributions},
                distributions=self._distributions,
            )
        )

    def _made(self) -> Any:
        samplers = self._optuna.samplers
        tpe = samplers.TPESampler(seed=self._seed, multivariate=True, constant_liar=True)
        if self._name == "optuna-tpe":
            return tpe
        with warnings.catch_warnings():
            # The margin is marked experimental; without it whole numbers get stuck.
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return samplers.CmaEsSampler(
                seed=self._seed,
                with_margin=True,
                independent_sampler=tpe,
                warn_independent_sampling=False,
            )


def _check(points: Sequence[Any], scores: Sequence[Any]) -> None:
    if len(points) != len(scores):
        raise InputError(
            "tell needs one score per point", value=(len(points), len(scores)), where="tell"
        )


def _plain(score: float | Score | None) -> tuple[float, int | None]:
    """Value (-inf for a bad one) and stage of a score."""
    if isinstance(score, Score) and not score.full:
        value, stage = score.revealed, score.stage
    else:
        value, stage = score.value if isinstance(score, Score) else float(score or 0.0), None
    return (value if math.isfinite(value) else -math.inf), stage


def _distributions(optuna: Any, space: ParameterSpace) -> dict[str, Any]:
    """The searched parameters as Optuna names them; fixed ones are left out."""
    from ares.backtest.space import Categorical, Int

    kinds = optuna.distributions
    found = {}
    searched = set(Coordinates(space).names)
    for name, parameter in space.parameters.items():
        if name not in searched:
            continue
        if isinstance(parameter, Categorical):
            found[name] = kinds.CategoricalDistribution(parameter.choices)
        else:
            kind = kinds.IntDistribution if isinstance(parameter, Int) else kinds.FloatDistribution
            found[name] = kind(parameter.low, parameter.high, log=parameter.log)
    return found


def _optuna(name: str) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "this sampler needs Optuna, which is not installed",
            value=name,
            where="search.sampler",
            remedy="Run pip install 'ares-trainer[optuna]', or choose the adaptive sampler.",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
