"""Prints the plan of a dry run: settings, scripts, stages and cost. No torch."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hpc.plan.sweep_plan import SEARCH, Plan, expected_kimg
from hpc.settings.compose import Experiment
from hpc.state.provenance import code_folder
from hpc.state.snapshot import snapshot


def print_plan(console: Console, plan: Plan, data: str, before: Experiment | None) -> None:
    """Print settings, stages, jobs, trials, cost and folder.

    `data`: a line about the data; `before`: the settings of the sweep's last launch, if there was one.
    """
    from omegaconf import OmegaConf

    e, s = plan.experiment, plan.experiment.search
    print(OmegaConf.to_yaml(OmegaConf.structured(e)))
    speed, source = known_speed(plan, before)
    t = Table("stage", "jobs", "trials", "kimg", "device-hours", "after", box=None, header_style="bold")
    for stage in plan.stages:
        kimg = sum(job.kimg for job in stage.jobs)
        trials = str(len(e.classes) * s.trials) if stage.name == SEARCH else ""
        labels = ", ".join(dict.fromkeys(job.label for job in stage.jobs if job.label))
        names = f"{len(stage.jobs)}: {labels}" if labels else str(len(stage.jobs))
        hours = f"{device_hours(kimg, speed):.2f}" if kimg and speed else ""
        t.add_row(stage.name, names, trials, f"{kimg:g}" if kimg else "", hours, ", ".join(stage.after))
    if e.profile.kind == "slurm":
        from hpc.cluster import executor

        for stage in plan.stages:
            for name, script in executor.scripts(plan, stage, code_folder(plan.run)).items():
                print(f"--- sbatch script of stage {name}\n{script}")
    console.print(t)
    for note in plan.notes:
        console.print(note)
    console.print(f"expected per class: {expected_kimg(s):g} kimg over rungs at {s.rungs} kimg")
    hours = f"{device_hours(plan.kimg, speed):.2f} device-hours at {speed:.0f} images/s, " if speed else ""
    console.print(f"cost: {plan.kimg:g} kimg of training: {hours}{source}")
    console.print(data, highlight=False)
    console.print(f"folder: {plan.run.path}{' (exists: would resume)' if before else ''}")


def known_speed(plan: Plan, before: Experiment | None) -> tuple[float, str]:
    """Training speed of one device in images per second, 0 if unknown, and its source in words."""
    speed, source = plan.experiment.profile.images_per_second, "assumed in the cluster profile"
    if before:
        s = snapshot(plan.run, before)
        speeds = [t["images_per_second"] for c in s.classes for t in c.trials if t.get("images_per_second")]
        if speeds:
            speed, source = sum(speeds) / len(speeds), f"measured over {len(speeds)} trials of this sweep"
    return speed, source if speed else "no speed is known yet (profile.images_per_second sets one)"


def device_hours(kimg: float, speed: float) -> float:
    """Hours of `kimg` training summed over all devices, if devices that train together gain no speed."""
    return kimg * 1000 / speed / 3600
