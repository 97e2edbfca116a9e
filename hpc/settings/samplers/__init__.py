"""Samplers, one per file, which `search.sampler=NAME` selects. They start without torch and Optuna.

A sampler has `draw(space, seed, label, index)`, which returns a value of each setting for trial `index` of
class `label`. `space` maps sorted dotted names of settings to `hpc.settings.space.Distribution`s. The values
must depend on the arguments only, not on earlier trials: so a search can be extended, and each job can draw
its own trials. A sampler that can draw so many trials only has `most(space)`, which says how many.

An adaptive sampler has `propose(space, seed, label, index, told)` instead, which returns the same. `told` is
a list of `hpc.settings.told.Told`, one per earlier trial whose values the space holds. Its values, too, must
depend on the arguments only; they are recorded before the trial runs, and read back from then on (see
`hpc.search.proposals`). The packages in `NEEDS`, if it has that, are looked for before a launch.
"""
