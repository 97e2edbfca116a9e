"""Scores generated images, beside the scores of real images at the same n.

    features.py   images -> features of a fixed network
    alexnet.py    the second network
    scores/       a file per score: KID, FD, precision and recall, two-sample test, diversity, copies ...
    copies.py     finds generated images that are copies of training images
    arrays.py     distances and groups of features
    cache.py      cached features of real images, and records computed from them
    reference.py  the real images, features and thresholds of one class and fold
    comparison.py the input of a score, and scores of real images in place of generated ones
    evaluate.py   generated images + reference -> one flat record

Nothing is imported here: the parts need torch and scikit-learn, which would delay a planner.
"""
