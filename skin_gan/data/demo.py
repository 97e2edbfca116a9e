"""Built-in data: drawn "lesions" of seven classes. They are no medical images and only test the program.

Each image is a smooth random function of the plane, evaluated on a grid: skin, a blob with an irregular
border, and a texture (network, globules, vessels). The classes have HAM10000's labels and caricature their
textbook descriptions. Several photographs of one lesion differ in crop, light and angle. All images are
determined by `RECIPE`, whose hash is the data's fingerprint.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skin_gan.identity import content_hash

Array = NDArray[np.float64]
RGB = tuple[float, float, float]

NOTE = "drawn by a program: not medical images, no result on them says anything about skin"


@dataclass(frozen=True)
class Kind:
    """The appearance of one class. Lengths are fractions of the image's half width, colours 0..255."""

    images: int
    lesions: int
    core: RGB
    rim: RGB
    radius: tuple[float, float]  # of the lesion
    irregular: float  # how far the border strays from an ellipse
    soft: float  # width of the border
    patch: RGB = (0, 0, 0)
    patches: float = 0.0  # share of the lesion covered by blotches of colour `patch`
    texture: str = "network"  # network: thin lines along a random field's zero; globules: its maxima
    texture_colour: RGB = (0, 0, 0)
    strength: float = 0.0
    scale: float = 8.0  # spatial frequency of the texture, in cycles over the image


KINDS: dict[str, Kind] = {
    # keratoses: pink and ill-defined, pale scales between reddish dots
    "akiec": Kind(
        48, 34, (206, 116, 104), (222, 150, 136), (0.50, 0.72), 0.30, 0.30,
        (242, 214, 186), 0.25, "globules", (176, 62, 62), 0.75, 9.0,
    ),
    # basal cell carcinoma: translucent pink, blue-grey nests, branching vessels
    "bcc": Kind(
        60, 42, (220, 164, 154), (208, 142, 132), (0.48, 0.68), 0.20, 0.16,
        (98, 96, 116), 0.22, "network", (176, 62, 60), 0.75, 3.4,
    ),
    # benign keratosis: sharply edged, tan to grey-brown, with dark furrows
    "bkl": Kind(
        90, 66, (166, 124, 88), (140, 100, 70), (0.50, 0.75), 0.16, 0.05,
        (196, 160, 118), 0.35, "network", (92, 62, 42), 0.80, 6.0,
    ),
    # dermatofibroma: a pale scar in the middle of a delicate brown ring
    "df": Kind(
        42, 28, (230, 202, 184), (160, 106, 80), (0.45, 0.60), 0.08, 0.22,
        (214, 170, 150), 0.10, "network", (134, 84, 62), 0.45, 9.0,
    ),
    # melanoma: large and asymmetric, brown to black with a blue-grey veil
    "mel": Kind(
        90, 66, (84, 54, 42), (126, 82, 60), (0.55, 0.80), 0.34, 0.10,
        (96, 98, 116), 0.28, "globules", (26, 18, 20), 0.90, 6.0,
    ),
    # naevus: an even brown oval with a fine network
    "nv": Kind(
        320, 240, (136, 88, 62), (170, 116, 86), (0.38, 0.66), 0.10, 0.16,
        (112, 70, 50), 0.18, "network", (98, 60, 42), 0.45, 10.0,
    ),
    # vascular: red to violet lakes in a well-defined lesion
    "vasc": Kind(
        44, 30, (186, 58, 74), (204, 104, 108), (0.40, 0.62), 0.14, 0.10,
        (112, 34, 84), 0.40, "globules", (84, 14, 40), 0.85, 4.5,
    ),
}  # fmt: skip

RECIPE: dict[str, Any] = {"demo": 1, "seed": 0, "kinds": {name: asdict(kind) for name, kind in KINDS.items()}}


def fingerprint() -> str:
    """The hash of the recipe, the same for all sizes and machines."""
    return content_hash(RECIPE, 16)


def rows() -> list[dict[str, str]]:
    """The manifest: the lesions of each class, the first ones with a second photograph."""
    found = []
    for label, kind in KINDS.items():
        for lesion in range(kind.lesions):
            name = f"{label}-{lesion:03d}"
            group = {"lesion_id": f"demo-{name}", "dx": label, "group": f"demo-{name}"}
            for photo in range(kind.images // kind.lesions + (lesion < kind.images % kind.lesions)):
                digest = hashlib.sha256(f"{fingerprint()}:{name}:{photo}".encode()).hexdigest()
                found.append({"image_id": f"demo-{name}-{photo}", **group, "sha256": digest})
    return found


def images(sizes: list[int]) -> Iterator[dict[int, NDArray[np.uint8]]]:
    """Each image of `rows()` in their order, by size: uint8 [size,size,3]."""
    for row in rows():
        label, lesion, photo = row["image_id"].removeprefix("demo-").split("-")
        yield {size: draw(label, int(lesion), int(photo), size) for size in sizes}


def draw(label: str, lesion: int, photo: int, size: int) -> NDArray[np.uint8]:
    """One photograph, uint8 [size,size,3]: drawn at twice the size, then averaged over 2x2 pixels.

    Computed in float64, so that differences between machines are far below one grey level.
    """
    kind = list(KINDS).index(label)
    picture = _render(KINDS[label], 2 * size, _rng(kind, lesion), _rng(kind, lesion, 1 + photo))
    mean = np.clip(picture, 0, 255).reshape(3, size, 2, size, 2).mean((2, 4))
    return np.rint(mean).astype(np.uint8).transpose(1, 2, 0)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng([RECIPE["seed"], *key])


class _Plane:
    """The pixel grid of one photograph in the lesion's coordinates."""

    def __init__(self, canvas: int, photo: np.random.Generator) -> None:
        axis = (np.arange(canvas) + 0.5) / canvas * 2 - 1  # [-1,1], the same places at any size
        angle, zoom = photo.uniform(0, 2 * np.pi), photo.uniform(0.9, 1.1)
        self.axis = axis
        self.turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        self.shift = photo.uniform(-0.12, 0.12, 2)
        grid = np.stack(np.meshgrid(axis, axis)) + self.shift[:, None, None]
        self.u, self.v = np.tensordot(self.turn, grid, 1)  # [H,W] each

    def noise(self, rng: np.random.Generator, cycles: float, waves: int = 16) -> Array:
        """A smooth random field [H,W] of unit variance with about `cycles` periods over the image.

        It is a sum of plane waves, computed as two products of waves in x and in y.
        """
        angle = rng.uniform(0, 2 * np.pi, waves)
        rate = np.pi * cycles * rng.uniform(0.6, 1.2, waves)
        phase = rng.uniform(0, 2 * np.pi, waves)
        k = self.turn.T @ (np.stack([np.cos(angle), np.sin(angle)]) * rate)  # [2,waves]
        x = np.outer(self.axis + self.shift[0], k[0]) + phase
        y = np.outer(self.axis + self.shift[1], k[1])
        return (np.cos(y) @ np.cos(x).T - np.sin(y) @ np.sin(x).T) * np.sqrt(2 / waves)


def _render(kind: Kind, canvas: int, lesion: np.random.Generator, photo: np.random.Generator) -> Array:
    """[3,canvas,canvas] in about 0..255. `lesion` draws the lesion, `photo` the view of it."""
    plane = _Plane(canvas, photo)
    tone = _mix(
        _colour((236, 196, 178)), _colour((208, 158, 134)), np.full_like(plane.u, lesion.uniform(0, 1))
    )
    image = tone + plane.noise(lesion, 1.2) * _colour((3, 5, 5)) + 2.5 * plane.noise(lesion, 14)
    radius = _radius(plane, kind, lesion)
    inside = _step(1 - radius, kind.soft)
    body = _mix(_tint(kind.core, lesion), _tint(kind.rim, lesion), _step(radius - 0.62, 0.5))
    body += 7 * plane.noise(lesion, 2.5)
    below = 1 - kind.patches
    quantile = math.log(below / (1 - below)) / 1.702  # of the normal distribution, approximately
    blotch = _step(plane.noise(lesion, 2.2) - quantile, 0.9)
    body = _mix(body, _tint(kind.patch, lesion), 0.8 * blotch)
    lines = _texture(plane, kind, lesion) * _step(1.02 - radius, 0.25)
    body = _mix(body, _tint(kind.texture_colour, lesion), kind.strength * lines)
    image = _mix(image, body, inside)
    return _photograph(_hairs(image, plane, lesion), plane, photo)


def _radius(plane: _Plane, kind: Kind, rng: np.random.Generator) -> Array:
    """[H,W] distance from the lesion's centre relative to the border's: 1 on the border."""
    size, stretch = rng.uniform(*kind.radius), rng.uniform(0.78, 1.0)
    u, v = plane.u / size, plane.v / (size * stretch)
    bumps = plane.noise(rng, 1.6) + 0.5 * plane.noise(rng, 4.5)
    return np.hypot(u, v) * (1 + 0.62 * kind.irregular * bumps)


def _texture(plane: _Plane, kind: Kind, rng: np.random.Generator) -> Array:
    """[H,W] in 0..1: the strength of the texture."""
    field = plane.noise(rng, kind.scale)
    if kind.texture == "network":
        # The field's slope grows with its frequency; this keeps the lines equally wide.
        return 1 - _step(np.abs(field) - 0.022 * kind.scale, 0.03 * kind.scale)
    return _step(field - 0.9, 0.6)


def _hairs(image: Array, plane: _Plane, rng: np.random.Generator) -> Array:
    """Dark curved lines over one lesion in five."""
    if rng.uniform() < 0.8:
        return image
    for _ in range(rng.integers(2, 6)):
        angle, offset, bend = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 0.5)
        along = plane.u * np.cos(angle) + plane.v * np.sin(angle)
        across = plane.v * np.cos(angle) - plane.u * np.sin(angle) - offset - bend * along**2
        image = _mix(image, _colour((60, 44, 38)), 0.75 * (1 - _step(np.abs(across) - 0.012, 0.02)))
    return image


def _photograph(image: Array, plane: _Plane, rng: np.random.Generator) -> Array:
    """Adds exposure, colour cast, uneven light and, in some photographs, a dermatoscope's dark corners."""
    x, y = plane.axis[None, :], plane.axis[:, None]
    slope = rng.uniform(-0.06, 0.06, 2)
    light = rng.uniform(0.9, 1.07) * (1 + slope[0] * x + slope[1] * y)
    if rng.uniform() < 0.12:
        light = light * (1 - 0.9 * _step(np.hypot(x, y) - 1.2, 0.16))
    return image * light * rng.uniform(0.97, 1.03, (3, 1, 1))


def _colour(rgb: RGB) -> Array:
    return np.array(rgb, dtype=np.float64)[:, None, None]


def _tint(rgb: RGB, rng: np.random.Generator) -> Array:
    """The colour [3,1,1], varied at random."""
    return _colour(rgb) * rng.uniform(0.9, 1.1) + rng.uniform(-6, 6, (3, 1, 1))


def _step(x: Array, width: float) -> Array:
    """0 below -width/2, 1 above width/2, smooth between."""
    t = np.clip(x / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _mix(a: Array, b: Array, share: Array) -> Array:
    """`a` where share [H,W] is 0, `b` where it is 1; both [3,1,1] or [3,H,W]."""
    return a + (b - a) * share
