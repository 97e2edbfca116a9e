"""How good generated images are, and how good real ones would be by the same measure at the same n.

    features.py   images -> features of a fixed network
    scores.py     features -> KID, FD, precision, recall, density, coverage, two-sample test, diversity
    copies.py     is a generated image a training image again?
    artefacts.py  checkerboard pattern of an image set
    cache.py      features of real images, and what follows from them, on disk
    reference.py  what evaluation needs of one class and fold
    floors.py     what real images score against real images
    evaluate.py   generated images + reference -> one flat record

Nothing is imported here: the parts need torch and scikit-learn, which a planner must not pay for.
"""
