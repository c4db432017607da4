"""Every crop and flip of a picture there is, by number: views that a table can hold completely."""

import tensorflow as tf

from kdkeras import arguments
from kdkeras.augment import pictures


class EveryShift:
    """All views that padding by `padding` pixels, cropping and mirroring can give of a picture.

    View `v` of `count = (2 padding + 1)^2 * 2` is the picture shifted by `(top, left)` and, for odd
    `v`, mirrored: `v = ((top * (2 padding + 1)) + left) * 2 + mirrored`; without `flip` there are
    half as many. `kdkeras.data.batches` draws one of them for each example and epoch, with equal
    probabilities, as the augmentations "crop,flip" do.

    Args:
        padding: Integer of at least 0.
        flip: Whether there are mirrored views.

    Attributes:
        count: The number of views: 162 for 4 pixels and mirroring.

    Raises:
        ValueError: `padding` is not an integer of at least 0.

    Example:

    >>> kdkeras.augment.EveryShift(padding=4, flip=True).count
    162
    """

    def __init__(self, *, padding=4, flip=True):
        self.padding = arguments.integer("padding", padding, low=0)
        self.flip = bool(flip)
        self.side = 2 * self.padding + 1
        self.count = self.side**2 * (2 if self.flip else 1)

    def at(self, images, views):
        """The given views.

        Args:
            images: float32 tensor of shape `(batch, height, width, channels)`.
            views: Integer tensor of shape `(batch,)`, in 0 ... count - 1.

        Returns:
            float32 tensor shaped like `images`.
        """
        place = tf.cast(views, tf.int32)
        if self.flip:
            mirrored = pictures.per_image(place % 2 == 1)
            place = place // 2
        top, left = place // self.side, place % self.side
        images = pictures.shifted(images, top, left, padding=self.padding)
        return tf.where(mirrored, tf.reverse(images, axis=[2]), images) if self.flip else images
