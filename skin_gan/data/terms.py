"""The terms of the data sets: the licence of what is made from them, and what has to be cited."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """The terms of a data set."""

    title: str
    licence: str  # its identifier on the Hugging Face Hub
    url: str = ""  # of the licence
    citation: str = ""


BY_NC = "https://creativecommons.org/licenses/by-nc/4.0/"
HAM10000 = (
    "Tschandl, P., Rosendahl, C. & Kittler, H. The HAM10000 dataset, a large collection of multi-source "
    "dermatoscopic images of common pigmented skin lesions. Sci. Data 5, 180161 (2018). "
    "https://doi.org/10.1038/sdata.2018.161"
)
# By kind of store, where the licence is one for all images.
TERMS = {
    "ham10000": Terms("HAM10000", "cc-by-nc-4.0", BY_NC, HAM10000),
    "medmnist": Terms(
        "DermaMNIST, made from HAM10000", "cc-by-nc-4.0", BY_NC,
        "Yang, J. et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image "
        f"classification. Sci. Data 10, 41 (2023). https://doi.org/10.1038/s41597-022-01721-8; {HAM10000}",
    ),
    "pad_ufes_20": Terms(
        "PAD-UFES-20", "cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/",
        "Pacheco, A. G. C. et al. PAD-UFES-20: a skin lesion dataset composed of patient data and clinical "
        "images collected from smartphones. Data Brief 32, 106221 (2020). https://doi.org/10.17632/zr7vgbcyr2",
    ),
    "demo": Terms("skin-gan's built-in drawings, which are no photographs", "mit"),
}  # fmt: skip
OTHER = "other"


def terms_of(kind: str) -> Terms:
    """The terms of a kind of store; for one that is not in TERMS they have to be looked up."""
    return TERMS.get(kind, Terms(f"photographs of another source ({kind})", OTHER))
