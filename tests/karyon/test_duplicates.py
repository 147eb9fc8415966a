"""Images of one field of view are found, however they were saved."""

import numpy as np

from karyon.checks.duplicates import duplicate_groups


def test_duplicates_are_found_though_saved_brighter_noisier_or_inverted_in_order() -> None:
    rng = np.random.default_rng(0)
    fields = rng.random((4, 16, 16))
    thumbnails = [
        fields[0],
        fields[1],
        0.5 * fields[0] + 20,
        fields[2],
        fields[1] + 0.02 * rng.random((16, 16)),
        fields[3],
    ]
    groups = duplicate_groups(list("abcdef"), thumbnails)
    assert groups == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "b", "f": "f"}


def test_a_chain_of_duplicates_is_one_group() -> None:
    """a and b are each like c but not like one another; wherever c comes in the order, all three belong together."""
    rng = np.random.default_rng(0)
    base, drift = rng.standard_normal((2, 16, 16))
    chain = {"a": base - 0.15 * drift, "b": base + 0.15 * drift, "c": base}
    assert duplicate_groups(["a", "b"], [chain["a"], chain["b"]]) == {"a": "a", "b": "b"}
    for order in ("abc", "acb", "cab"):
        groups = duplicate_groups(list(order), [chain[name] for name in order])
        assert set(groups.values()) == {order[0]}


def test_images_without_contrast_are_no_duplicates_of_anything() -> None:
    black, white = np.zeros((16, 16)), np.ones((16, 16))
    assert duplicate_groups(["a", "b"], [black, white]) == {"a": "a", "b": "b"}
