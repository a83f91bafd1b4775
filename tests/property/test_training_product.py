"""The product kernel of training against SciPy's."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_training.models.base import dense_product


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_dense_product_is_the_sparse_one(n: int, m: int, p: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left = sp.random(n, m, rng.random(), format="csr", dtype=np.float32, random_state=rng)
    right = sp.random(m, p, rng.random(), format="csr", dtype=np.float32, random_state=rng)
    np.testing.assert_allclose(dense_product(left, right), (left @ right).toarray(), rtol=1e-5, atol=1e-6)
