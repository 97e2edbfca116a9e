"""ISIC 2017, part 3: a column each for melanoma and seborrheic keratosis; neither means a nevus."""

from skin_gan.data.layout import Layout

LAYOUT = Layout(
    kind="isic2017",
    title="ISIC 2017 challenge, part 3 (neither melanoma nor seborrheic keratosis is nevus)",
    image=("image_id",),
    tells=(("image_id",), ("melanoma",), ("seborrheic_keratosis",)),
    one_hot=True,
    zero="nevus",
)
