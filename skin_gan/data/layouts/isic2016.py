"""ISIC 2016, part 3: a table without a line of column names; training has words, the test set 0.0 and 1.0."""

import re

from skin_gan.data.layout import Layout

LAYOUT = Layout(
    kind="isic2016",
    title="ISIC 2016 challenge, part 3",
    image=("image_id",),
    label=("target",),
    tells=(("image_id",), ("target",)),
    named=re.compile(r"ISBI2016_ISIC_Part3B?_(Training|Test)_GroundTruth\.csv", re.IGNORECASE),
    header=("image_id", "target"),
    values={"benign": "benign", "malignant": "malignant", "0": "benign", "0.0": "benign", "1": "malignant",
            "1.0": "malignant"},
    closed=True,
)  # fmt: skip
