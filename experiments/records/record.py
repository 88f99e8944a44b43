"""What the records share: one row a seed, kept in a JSON file, and the claim that follows from it.

A claim is the mean test accuracy of all seeds after the last epoch, with the hardware and the
command. No seed is left out, and no epoch is chosen.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

import jaxconv
from jaxconv.measure import environment, summarize
from jaxconv.runs import write_json

RESULTS = Path(__file__).parents[1] / "results"
SAME = ("cpu", "device_kind", "jaxlib_version")
"""The facts that decide how a program rounds."""


class Row(NamedTuple):
    """A trained seed."""

    seed: int
    accuracy: float
    """Of the test set, after the last step."""
    seconds: float
    """From the first key to the trained parameters, with the programs compiled."""
    digest: str
    """A fingerprint of the trained parameters."""


def digest(params: PyTree[Array]) -> str:
    """The first 16 digits of the SHA-256 of all parameters.

    Example:
      >>> digest({"bias": jax.numpy.zeros(3)})
      '15ec7bf0b50732b4'
    """
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(params)):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()[:16]


def load() -> tuple[dict[str, Array], dict[str, Array]]:
    """The training and the test digits, on the device."""
    data = jaxconv.load_dataset("mnist")
    return jax.device_put(data.train.batch()), jax.device_put(data.test.batch())


def keep(path: Path, rows: Sequence[Row], **facts: Any) -> None:
    """Writes the rows of all seeds, with the machine that trained them."""
    write_json(path, {**environment(), **facts, "seeds": [row._asdict() for row in rows]})


def kept(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """Reads what `keep` has written: the facts and the rows.

    Raises:
      FileNotFoundError: if no seed is kept.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: train the seeds with --seeds first.")
    facts = json.loads(path.read_text())
    return facts, [Row(**row) for row in facts.pop("seeds")]


def claim(facts: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The claim in two lines.

    Example:
      >>> facts = {"cpu": "A CPU", "cpu_count": 2, "backend": "cpu", "jax_version": "0.10.2"}
      >>> rows = [Row(0, 0.990, 1.25, "a"), Row(1, 0.992, 1.75, "b")]
      >>> print(claim(facts, rows))
      Test accuracy 0.9910 ± 0.0014 (mean ± std of 2 seeds; the mean's 95%: 0.9783 to 1.0000)
      1.50 s a seed (1.25 to 1.75), compiled, on 2 cores of A CPU, jax 0.10.2
    """
    accuracy = summarize([row.accuracy for row in rows], within=(0, 1))
    seconds = [row.seconds for row in rows]
    spread = f"{len(rows)} seed"
    if accuracy.low is not None:
        interval = f"the mean's 95%: {accuracy.low:.4f} to {accuracy.high:.4f}"
        spread = f"mean ± std of {len(rows)} seeds; {interval}"
    device = f"{facts['cpu_count']} cores of {facts['cpu']}"
    if facts["backend"] != "cpu":
        device = facts["device_kind"]
    return (
        f"Test accuracy {accuracy} ({spread})\n"
        f"{np.median(seconds):.2f} s a seed ({min(seconds):.2f} to {max(seconds):.2f}), compiled, "
        f"on {device}, jax {facts['jax_version']}"
    )


def show_anew(row: Row, path: Path) -> None:
    """Prints the accuracy of a seed trained anew, and compares it with the kept one."""
    print(f"Test accuracy {row.accuracy:.4f}", flush=True)
    if path.exists():
        print(compare(row, *kept(path)))


def compare(row: Row, facts: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Whether a seed trained anew has the bits of the kept one, in one line.

    Example:
      >>> compare(Row(1, 0.992, 1.0, "b"), {}, [Row(0, 0.990, 1.25, "a")])
      'Seed 1 is not among the kept seeds.'
    """
    of_seed = {kept.seed: kept for kept in rows}
    if row.seed not in of_seed:
        return f"Seed {row.seed} is not among the kept seeds."
    if row.digest == of_seed[row.seed].digest:
        return f"The parameters are those of the kept seed {row.seed}, to the bit."
    here, there = environment(), dict(facts)
    others = [f"{name} {there[name]}" for name in SAME if here[name] != there.get(name)]
    why = f"it was trained with {', '.join(others)}" if others else "they should be equal"
    return (
        f"The kept seed {row.seed} has other bits and accuracy {of_seed[row.seed].accuracy:.4f}: "
        f"{why}."
    )
