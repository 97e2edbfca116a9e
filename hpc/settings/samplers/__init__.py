"""Samplers, a file each, found by its name: `search.sampler=NAME`.

A sampler has `draw(space, seed, label, index)`, which returns a value of each setting for trial `index` of
class `label`. `space` maps the dotted names of settings, sorted, to `hpc.settings.space.Distribution`s. The
values depend on the arguments alone, never on earlier trials: a search can be extended, and a job draws its
trials by itself.
"""
