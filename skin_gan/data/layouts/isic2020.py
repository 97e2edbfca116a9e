"""ISIC 2020 (SIIM-ISIC): benign or malignant, with patients, lesions in version 2."""

from skin_gan.data.layout import Layout

LAYOUT = Layout(
    kind="isic2020",
    title="ISIC 2020 challenge",
    image=("image_name",),
    label=("benign_malignant", "target"),
    tells=(("image_name",), ("patient_id",), ("benign_malignant", "target")),
    values={"0": "benign", "0.0": "benign", "1": "malignant", "1.0": "malignant"},
)
