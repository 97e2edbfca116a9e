"""Samplers, one per file, which `search.sampler=NAME` selects.

A sampler has `draw(space, seed, label, index)`, which returns a value of each setting for trial `index` of
class `label`. `space` maps sorted dotted names of settings to `hpc.settings.space.Distribution`s. The values
must depend on the arguments only, not on earlier trials: so a search can be extended, and each job can draw
its own trials. A sampler that can draw so many trials only has `most(space)`, which says how many.
"""
