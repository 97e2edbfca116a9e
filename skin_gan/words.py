"""The labels of verdicts and of selected generators, shared by code, tables, pages and terminal."""

from __future__ import annotations

# Verdict on an arm against its base
HELPS = "helps"
HARMS = "harms"
RULED_OUT = "gain ruled out"  # not significant, and the interval excludes a worthwhile gain
UNRESOLVED = "not resolved"  # none of these: more lesions or seeds are needed
NOT_JUDGED = "not judged"  # the classifier has not learnt enough for a verdict
# Labels shown instead of a verdict
LEAKAGE = "leakage"  # the arm's images repeat test photographs
NOTHING = "nothing was added"  # the filter kept no generated image
CONTROL = "control"  # as many images chosen at random as a filter keeps

# Generators
ACCEPTED = "accepted"
POOR = "poor"  # accepted, and far from real images
REJECTED = "rejected"  # used only with allow_rejected=true
