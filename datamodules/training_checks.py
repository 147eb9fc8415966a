"""Whether batches can be made of a data set: its images of extreme sizes, prepared as training does."""

from collections.abc import Sequence

from datamodules.preparation import SamplePreparation
from karyon.batch import Sample, collate
from karyon.checks.image_facts import Facts
from karyon.layouts.protocol import Item, Size


def prepare_extremes(
    items: Sequence[Item], images: Sequence[Facts], preparation: SamplePreparation, batch_size: int
) -> list[Sample]:
    """Prepares the lowest, the highest, the narrowest and the widest image: where any fails in a training, one does.

    Args:
        items: of a part of the split.
        images: what is known of each.
        preparation: with training's augmentations, or evaluation's.
        batch_size: above 1 they have to fit into a batch.

    Raises:
        DataError: an image is smaller than a crop, or they do not fit into a batch.
    """
    usable = [k for k, facts in enumerate(images) if not facts.refusal and facts.labels_size in (None, facts.size)]
    chosen = [pick(usable, key=lambda k: images[k].size[axis]) for axis in (0, 1) for pick in (min, max) if usable]
    samples = []
    for item in (items[k] for k in dict.fromkeys(chosen)):
        samples.append(preparation(item.name, item.image_type, *item.read()))
    if batch_size > 1 and samples:
        collate(samples)
    return samples


def common_size(samples: Sequence[Sample]) -> Size | None:
    """The height and width that all prepared images have, px; None where they differ: there is no crop then."""
    sizes = {(sample.image.shape[-2], sample.image.shape[-1]) for sample in samples}
    return sizes.pop() if len(sizes) == 1 else None
