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
from headrace_training.nextitem import MIN_QUESTIONS, NEXT_ITEM_MODELS, check_next_item_options, make_next_item
from headrace_training.progress import say
from headrace_training.search import Problem
from headrace_training.select import MIN_USERS, Validation
from headrace_training.sequences import read_people, read_sessions
from headrace_training.space import Space, space_of
from headrace_training.validation import Validation as NextItemValidation
from headrace_training.validation import hold_out_last, hold_out_sessions


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


def sessions_problem(path: Path, model: str, k: int, seed: int) -> Problem:
    """Validation ndcg@k of next-item models on the last tenth of a file of sessions; errors as above."""
    check_next_item_options(model, k, seed)
    return _next_item_problem("sessions", hold_out_sessions(read_sessions(path), k, seed), model, seed)


def sequences_problem(path: Path, model: str, k: int, seed: int) -> Problem:
    """Validation ndcg@k of next-item models on each person's last item but one; errors as above."""
    check_next_item_options(model, k, seed)
    people = read_people(path)[1]
    return _next_item_problem("sequences", hold_out_last(people, people.without_last(2), k, seed), model, seed)


def _next_item_problem(format: str, validation: NextItemValidation, model: str, seed: int) -> Problem:
    if len(validation.questions) < MIN_QUESTIONS:
        raise DataError(
            "questions to validate on",
            got=len(validation.questions),
            expected=f"{MIN_QUESTIONS} or more",
            hint="a search on fewer finds chance; take the defaults",
        )
    say(f"validating on {len(validation.questions)} questions held out of {len(validation.train)} rows")

    def measure(name: str, parameters: Parameters) -> float:
        fitted = make_next_item(name, seed, parameters)
        fitted.fit(validation.train)
        return validation.ndcg(fitted.servable())

    spaces = {name: space_of(make_next_item(name, seed)) for name in NEXT_ITEM_MODELS}
    used: dict[str, Space] = {
        name: {key: span for key, span in space.items() if validation.matters(key)} for name, space in spaces.items()
    }
    chosen = searched_spaces(used, model)
    defaults = {name: make_next_item(name, seed).parameters for name in chosen}
    return Problem(format, f"ndcg@{validation.k}", validation.train.digest(), chosen, defaults, measure)


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
