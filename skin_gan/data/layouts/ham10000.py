"""HAM10000 as it is released: two parts of images, one table (Tschandl 2018, doi:10.7910/DVN/DBW86T)."""

import re

from skin_gan.data.layout import Layout

RELEASE = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}  # images

LAYOUT = Layout(
    kind="ham10000",
    title="HAM10000",
    image=("image_id",),
    label=("dx",),
    tells=(("lesion_id",), ("image_id",), ("dx",)),
    named=re.compile(r"HAM10000_metadata(\.(csv|tab|tsv|txt))?", re.IGNORECASE),
    values={label: label for label in RELEASE},
    closed=True,
    parts=re.compile(r"HAM10000_images_part_?\d+(\.zip)?", re.IGNORECASE),  # mirrors write part1 or part_1
    columns=("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"),
    release=RELEASE,
)
