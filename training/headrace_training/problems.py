"""What a search tries and how it measures, by format; each opens training files only."""

from __future__ import annotations

import hashlib
from pathlib import Path

import scipy.sparse as sp

from headrace.errors import ConfigError, DataError
from headrace_training.datasets import read_pairs
from headrace_training.evaluate import check_options, latest_times
from headrace_training.memory import require_for_file, require_for_fit
from headrace_training.models import MODELS, make_model
from headrace_training.models.base import Parameters
from headrace_training.progress import say
from headrace_training.search import Problem
from headrace_training.select import MIN_USERS, Validation
from headrace_training.space import Space, space_of


def interactions_problem(path: Path, model: str, k: int, seed: int) -> Problem:
    """Validation recall@k of models on a part held out of a file of interactions, the latest where times are known.

    model : "auto" for all that declare a space. Raises ConfigError for one that does not, DataError for too few users.
    """
    check_options(model, k, seed)
    require_for_file(path)
    pairs = read_pairs(path)
    train = pairs.matrix()
    validation = Validation(train, latest_times(pairs, train), k, seed)
    if len(validation.users) < MIN_USERS:
        raise DataError(
            f"{path}: users to validate on",
            got=len(validation.users),
            expected=f"{MIN_USERS} with two items or more",
            hint="a search on fewer finds chance; take the defaults",
        )
    say(f"validating on {len(validation.users)} users and {validation.held.nnz} pairs held out of {path}")

    def measure(name: str, parameters: Parameters) -> float:
        fitted = make_model(name, seed, parameters)
        require_for_fit(fitted, validation.train)
        fitted.fit(validation.train)
        return validation.recall(fitted)

    spaces = searched_spaces({name: space_of(make_model(name, seed)) for name in MODELS}, model)
    defaults = {name: make_model(name, seed).parameters for name in spaces}
    return Problem("interactions", f"recall@{k}", matrix_digest(train), spaces, defaults, measure)


def searched_spaces(spaces: dict[str, Space], model: str) -> dict[str, Space]:
    """The spaces of one model, or for "auto" of all that have one; ConfigError when it has none."""
    chosen = {name: space for name, space in spaces.items() if space and model in ("auto", name)}
    if not chosen:
        having = ", ".join(name for name, space in spaces.items() if space)
        raise ConfigError("--model", got=model, expected=f"auto, {having}", hint=f"{model} has no parameters to search")
    return chosen


def matrix_digest(matrix: sp.csr_matrix) -> str:
    """SHA-256 of the matrix as it is stored."""
    found = hashlib.sha256(repr(matrix.shape).encode())
    for part in (matrix.indptr, matrix.indices, matrix.data):
        found.update(part.tobytes())
    return found.hexdigest()
