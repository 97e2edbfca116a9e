"""The words of verdicts and of the selection of generators: one list for code, tables, pages and terminal."""

from __future__ import annotations

# Of an arm against its base
HELPS = "helps"
HARMS = "harms"
RULED_OUT = "gain ruled out"  # not significant, and the interval excludes a gain worth having
UNRESOLVED = "not resolved"  # neither: more lesions or seeds are needed
NOT_JUDGED = "not judged"  # the classifier has not learnt enough to judge by
# In place of a verdict
LEAKAGE = "leakage"  # the arm's images repeat photographs that it is tested on
NOTHING = "nothing was added"  # no generated image was left to train with
CONTROL = "control"  # as many images chosen at random as a filter keeps

# Of a generator
ACCEPTED = "accepted"
POOR = "poor"  # accepted, and far from real images
REJECTED = "rejected"  # used only with allow_rejected=true
