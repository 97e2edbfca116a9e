"""What each stage asks Slurm for, the recipes of docs/clusters.md, and a user's own profiles."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from plans import WORDS, plan_of

from hpc.cli.launch import launch
from hpc.cluster import executor
from hpc.jobs.registry import WORK
from hpc.jobs.task import Task
from hpc.plan.sweep_plan import Plan, spares_gpu
from hpc.settings.compose import CHOICES, compose, save
from hpc.settings.profiles import ProfileSettings
from hpc.slurm import client
from skin_gan.errors import SkinGanError
from skin_gan.io import write_json

RECIPES = dict(
    re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", (ROOT / "docs/clusters.md").read_text(), re.DOTALL)
)
BOTH = ("ablate.classifiers.head={arms: [real, best], seeds: 1}",
        "ablate.classifiers.cnn={arms: [real, best], seeds: 1}", "final.kimg=1")  # fmt: skip


def scripts(plan: Plan) -> dict[str, list[str]]:
    """The options of each script by its name."""
    return {
        name: re.findall(r"^#SBATCH (\S+)", script, re.MULTILINE)
        for stage in plan.stages
        for name, script in executor.scripts(plan, stage, Path("/code")).items()
    }


def asked(options: list[str]) -> set[str]:
    return {o for o in options if o.startswith(("--gres", "--gpus", "--partition", "--constraint"))}


def recipe(name: str, folder: Path, *words: str) -> Plan:
    file = folder / name
    file.write_text(RECIPES[name])
    return plan_of(folder / "results", *words, f"cluster={file}")


def test_jobs_without_gpu_ask_for_none_and_go_to_the_cpu_partition(tmp_path):
    made = scripts(recipe("typed.yaml", tmp_path, *BOTH))
    whole = {"--partition=gpu", "--constraint=nvlink", "--gres=gpu:a100:2"}
    one, none = {*whole, "--gres=gpu:a100:1"} - {"--gres=gpu:a100:2"}, {"--partition=cpu"}
    expected = {"prepare": whole, "search": whole, "select": none, "final": whole, "generate": none,
                "ablate, part 1 of 2": one, "ablate, part 2 of 2": none, "combine, part 1 of 2": one,
                "combine, part 2 of 2": none, "report": none}  # fmt: skip
    assert {name: asked(options) for name, options in made.items()} == expected


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("mig.yaml", "--gres=gpu:1g.10gb:1"),
        ("mps.yaml", "--gres=mps:25"),
        ("shared.yaml", "--gpus-per-node=1"),
        ("container.yaml", "--gpus-per-node=1"),
    ],
)
def test_each_recipe_asks_for_what_it_says(tmp_path, name, search):
    plan = recipe(name, tmp_path, *BOTH)
    made = scripts(plan)
    assert {search} == {o for o in asked(made["search"]) if "partition" not in o}
    assert all(
        not {o for o in asked(made[stage]) if "partition" not in o} for stage in ("select", "generate")
    )
    assert executor.slots(plan.experiment) == (4 if name == "shared.yaml" else 1)


def test_the_recipe_for_containers_starts_python_through_its_script(tmp_path):
    plan = recipe("container.yaml", tmp_path)
    script = (ROOT / "docs/clusters.md").read_text().split("# /shared/skin-gan-python\n")[1].split("```")[0]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    (made,) = executor.scripts(plan, plan.stages[0], Path("/code")).values()
    start = next(line for line in made.splitlines() if line.startswith("srun"))
    assert " /shared/skin-gan-python " in start and sys.executable not in made
    said = [line.split(" ", 1)[1] for line in (ROOT / "slurm/container/Dockerfile").read_text().splitlines()
            if line.startswith(("RUN ", "FROM "))]  # fmt: skip
    definition = (ROOT / "slurm/container/skin-gan.def").read_text()
    assert len(said) == 2 and all(word in definition for word in said)


def test_every_recipe_is_tried_here():
    assert RECIPES.keys() == {"typed.yaml", "mig.yaml", "mps.yaml", "shared.yaml", "container.yaml"}


def test_extra_options_about_gpus_do_not_reach_jobs_without(tmp_path):
    plan = plan_of(tmp_path, "profile.extra={gpu-bind: closest, nice: 5}", "profile.constraint=big")
    made = scripts(plan)
    assert "--gpu-bind=closest" in made["search"] and "--gpu-bind=closest" not in made["select"]
    assert "--nice=5" in made["select"] and "--constraint=big" in made["select"]  # the same partition


def test_a_job_without_gpu_does_not_look_for_one(tmp_path, monkeypatch):
    plan, seen = plan_of(tmp_path, "operations.device=cuda"), []
    save(plan.experiment, plan.run.settings)
    write_json(plan.run.provenance, {"data": {"fingerprint": plan.data}})
    monkeypatch.setitem(WORK, "select", lambda plan, *_: seen.append(plan.experiment.operations.device))
    Task(str(plan.run.path), "select", "", 1)()
    assert seen == ["cpu"] and not spares_gpu(plan.experiment, plan.stages[0].jobs[0])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["profile.gres=a100"], "such as gpu:a100:1"),
        (["profile.gres=gpu:a100:2"], "profile.gpus_per_node=1: expected the same number"),
        (["profile.gres=mps:50", "profile.gpus_per_node=0"], "expected the number of GPUs that a job"),
        (["profile.extra={gres: gpu:1}"], "use profile.gres instead"),
    ],
)
def test_a_gres_that_does_not_fit_is_refused(words, says):
    with pytest.raises(SkinGanError, match=re.escape(says)):
        compose([*WORDS, "cluster=one_gpu", *words])


SINFO = "cpu|(null)\ngpu|gpu:a100:4(S:0-1),mps:400\nmig|gpu:1g.10gb:7(S:0)\nold|gpu:2\n"


@pytest.mark.parametrize(
    ("p", "says"),
    [
        (dict(partition="cpu"), "profile.partition=cpu has no gpu, which profile.gpus_per_node=1 asks for"),
        (dict(partition="mig", gres="gpu:a100:1"), "has no gpu:a100, which profile.gres=gpu:a100:1"),
        (dict(partition="old", gres="mps:50"), "choose of gpu (gpu:a100, mps), mig (gpu:1g.10gb), old (gpu)"),
        (dict(partition="cpu,gpu"), None),
        (dict(partition="mig", gres="gpu:1g.10gb:1"), None),
        (dict(partition="gpu", gres="mps:50"), None),
        (dict(partition="cpu", gpus_per_node=0), None),
        (dict(partition="gpu", cpu_partition="fat"), "profile.cpu_partition=fat: this cluster has cpu, gpu"),
    ],
)
def test_a_partition_without_such_gpus_is_refused_with_the_choices(monkeypatch, p, says):
    rows = "".join(f"PartitionName={n} Default=NO MaxTime=UNLIMITED\n" for n in ("cpu", "gpu", "mig", "old"))
    answers = {"sinfo": SINFO, "partition": rows, "config": ""}
    monkeypatch.setattr(client, "client", lambda *w: answers[w[0] if w[0] in answers else w[-1]])
    client.max_array.cache_clear()
    profile = ProfileSettings(**{"kind": "slurm", "gpus_per_node": 1, **p})
    if says is None:
        client.check_limits(profile)
    else:
        with pytest.raises(SkinGanError, match=re.escape(says)):
            client.check_limits(profile)
    client.max_array.cache_clear()


# Profiles of one's own


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's configuration folder with one profile."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "skin-gan" / "clusters"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text("# Our cluster.\nkind: slurm\npartition: p7\n")
    return folder


def test_a_profile_may_be_a_path_or_lie_in_the_configuration_folder(mine, tmp_path, monkeypatch, capsys):
    assert compose([*WORDS, "cluster=ours"]).profile.partition == "p7"
    assert {"ours", "one_gpu"} <= {*CHOICES["cluster"].names()}
    monkeypatch.chdir(mine)
    e = compose([*WORDS, "cluster=./ours.yaml"])
    assert (e.cluster, e.profile.partition) == (str(mine / "ours.yaml"), "p7")
    (mine / "one_gpu.yaml").write_text("# Mine.\nkind: slurm\npartition: p8\n")
    assert compose([*WORDS, "cluster=one_gpu"]).profile.partition == "p8"  # one's own come first
    assert launch(["--help"]) == 0 and "Our cluster." in capsys.readouterr().out


@pytest.mark.parametrize("path", ["./none.yaml", "none.yaml", "/nowhere/x"])
def test_a_profile_that_is_not_there_is_refused_with_the_choices(mine, path):
    with pytest.raises(SkinGanError, match=r"there is no such file.*one_gpu, ours, several_gpus"):
        compose([*WORDS, f"cluster={path}"])
    with pytest.raises(SkinGanError, match=r"unknown cluster 'mars': choose one of .*ours"):
        compose([*WORDS, "cluster=mars"])
    with pytest.raises(SkinGanError, match=r"sweep=\./x\.yaml: there is no such file"):
        compose(["sweep=./x.yaml"])


def test_a_faulty_profile_at_a_path_is_named(mine):
    (mine / "ours.yaml").write_text("kind: slurm\nminutes: 1:30:00\n")
    with pytest.raises(SkinGanError, match=re.escape(f"in {mine}/ours.yaml: expected a whole number")):
        compose([*WORDS, f"cluster={mine}/ours.yaml"])
