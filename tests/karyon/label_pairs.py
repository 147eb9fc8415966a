"""Label images and predictions of them, for Hypothesis."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


@st.composite
def label_pairs(draw):
    """A label image, and a copy in which some pixels have other labels."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 7)))
    labels = arrays(np.int64, shape, elements=st.integers(0, 4))
    true, other, change = draw(labels), draw(labels), draw(arrays(bool, shape))
    return true, np.where(change, other, true)


def several(pairs):
    return st.lists(pairs, min_size=1, max_size=4)
