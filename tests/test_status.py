"""What status reads: jobs' records and sweeps' folders, damaged ones too."""

from hpc.records import record
from skin_gan.run import RunFolder, read_json


def test_a_job_that_ended_well_has_done_all(tmp_path):
    run = RunFolder(tmp_path)
    with record(run, "generate-df") as tell:
        for done in range(6):
            tell(done=done, total=6)
    with record(run, "select"):
        pass
    entry = read_json(run.jobs / "generate-df.json")
    assert (entry["state"], entry["done"], entry["total"]) == ("done", 6, 6)
    assert "done" not in read_json(run.jobs / "select.json")
