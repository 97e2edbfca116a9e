"""How good generated images are, and how good real ones would be by the same measure at the same n.

    features.py   images -> features of a fixed network
    alexnet.py    the second network
    scores/       a file per score: KID, FD, precision and recall, two-sample test, diversity, copies ...
    copies.py     is a generated image a training image again?
    arrays.py     distances and groups of features
    cache.py      features of real images, and what follows from them, on disk
    reference.py  what evaluation needs of one class and fold
    comparison.py what a score is given, and what real images score in place of generated ones
    evaluate.py   generated images + reference -> one flat record

Nothing is imported here: the parts need torch and scikit-learn, which a planner must not pay for.
"""
