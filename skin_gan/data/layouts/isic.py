"""ISIC 2018 task 3 and 2019: a ground truth with one column of 0 and 1 per class.

The classes are those that have images. Lesions are in a table beside it: LesionGroupings in 2018,
Metadata in 2019.
"""

import re

from skin_gan.data.layout import Layout
from skin_gan.data.words import IMAGE_COLUMNS

LAYOUT = Layout(
    kind="isic",
    title="ISIC challenge with one column per class (2018 task 3, 2019)",
    image=("image", "image_name", "image_id", "isic_id", *IMAGE_COLUMNS),
    one_hot=True,
    named=re.compile(r"(?!ISBI2016).*Ground_?Truth.*", re.IGNORECASE),
)
