"""The owners of a run side by side, and what happens beside its training."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.data import Dataset, StreamedDataset
from jaxconv.measure.environment import environment
from jaxconv.parallel import World
from jaxconv.runs.clock import Clock
from jaxconv.runs.config import Config
from jaxconv.runs.folder import DIAGNOSTICS
from jaxconv.runs.plan import Plan
from jaxconv.runs.prepare import Net
from jaxconv.runs.report.collect import save_diagnostics
from jaxconv.runs.result import Nets, Outcome, diverged
from jaxconv.runs.run_folder import Elsewhere
from jaxconv.runs.signals import Interrupts
from jaxconv.runs.trained import Trained
from jaxconv.training import ResumePoint, Row, TrainState, kept


class Start(NamedTuple):
    """Where a run begins."""

    groups: list[tuple[TrainState | None, ResumePoint]]
    """The newest checkpoint of each group of replicas; of a finished one without its state."""
    histories: list[list[Row]]
    """The rows so far of each replica."""
    nets: dict[range, Nets]
    """The trained nets of the groups that are finished."""

    @property
    def step(self) -> int:
        """The steps taken so far."""
        return max((point.step for _, point in self.groups), default=0)


@dataclasses.dataclass(frozen=True)
class Session:
    """What a run has at hand once its folder is open."""

    plan: Plan
    config: Config
    world: World
    clock: Clock
    interrupts: Interrupts
    data: Dataset | StreamedDataset
    net: Net
    folder: Elsewhere

    def diagnose(self, members: range, states: TrainState) -> None:
        """Writes the diagnostics of a trained group, unless those of one are there."""
        seeds = [self.plan.seeds[i] for i in members]

        def write(path: Path) -> None:
            own, data = kept(self.world.own(states)), self.data
            save_diagnostics(path, self.net.model, own, seeds, data.test, data.class_names)

        with self.clock("report"):
            self.folder.write(DIAGNOSTICS, write)

    def save(self, states: TrainState, point: ResumePoint) -> None:
        """Saves a checkpoint that is due, or that a signal asks for before it ends the run."""
        number = self.world.signal(self.interrupts.pending)  # later ones wait for the next save
        self.folder.save(self.world.own(states), point, now=number > 0)
        self.end_on(number)

    def end_on(self, number: int) -> None:
        """Ends the run in all processes, if the number is that of a signal."""
        if number:
            self.world.leave()
            self.interrupts.raise_for(number)

    def trained(self, outcome: Outcome) -> Trained:
        """The nets of all seeds, with what using them needs."""
        plan, data = self.plan, self.data
        groups = [outcome.nets[members] for members in sorted(outcome.nets, key=lambda x: x.start)]
        stacked = jax.tree.map(lambda *x: np.concatenate(x), *groups)
        lost = diverged(outcome.histories, outcome.tests)
        return Trained(
            self.net.model,
            tuple(
                TrainState(
                    jnp.int32(len(history) * self.steps // plan.epochs),
                    rng=jax.random.key(seed),
                    opt_state=(),
                    **jax.tree.map(lambda x, i=i: x[i], stacked),
                )
                for i, (seed, history) in enumerate(zip(plan.seeds, outcome.histories, strict=True))
            ),
            data.input_shape,
            input_dtype=data.test.image.dtype.name,
            class_names=data.class_names,
            dataset=data.name,
            experiment=plan.name,
            seeds=plan.seeds,
            test_accuracy=tuple(
                None if away else x["accuracy"] for x, away in zip(outcome.tests, lost, strict=True)
            ),
        )

    @property
    def steps(self) -> int:
        """The number of steps of a whole training."""
        return self.plan.epochs * -(-len(self.data.train) // self.plan.batch_size)

    def facts(self, start: Start) -> dict[str, Any]:
        """The values of `result.json` that no training changes."""
        return {
            "dataset": self.data.name,
            "params_count": self.net.params_count,
            "epochs": self.plan.epochs,
            "steps": self.steps,
            "early_stopping": self.config.training.early_stopping,
            "restore_best": self.config.training.restore_best,
            "resumed_at_step": start.step if self.config.run.resume else None,
            "devices": self.world.mesh.size,
            "processes": self.world.count,
            **environment(),
        }
