"""The commands that write a sweep's results again: aggregate and report."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpc.cli.conclusion import conclude
from hpc.cli.launch import make_console
from hpc.plan.sweep_plan import reopen
from skin_gan.folders import RunFolder
from skin_gan.installation import called


def aggregate(arguments: list[str]) -> int:
    """Write the leaderboard and export the best generators."""
    parser = argparse.ArgumentParser(prog=called("aggregate"), description=aggregate.__doc__)
    parser.add_argument("run", type=Path, help="a sweep's folder")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="also write tables and generated images "
                        "to DIR to be committed, without photographs and local paths")  # fmt: skip
    parser.add_argument(
        "--generators", action="store_true", help="with --publish: the chosen generators, too"
    )
    options = parser.parse_args(arguments)
    if options.generators and not options.publish:
        parser.error("--generators says what --publish DIR writes: give both")
    plan = reopen(RunFolder(options.run.absolute()))
    from hpc.report.publish import publish
    from hpc.stages.best import export_best, write_results

    export_best(plan, *write_results(plan))
    if options.publish:
        publish(plan, options.publish, options.generators)
    conclude(make_console(), plan)
    print(f"results: {plan.run.path}")
    return 0


def report(arguments: list[str]) -> int:
    """Write the report of a sweep again, from what its classifiers have reached."""
    parser = argparse.ArgumentParser(prog="skin-gan report", description=report.__doc__)
    parser.add_argument("run", type=Path, help="a sweep's folder")
    plan = reopen(RunFolder(parser.parse_args(arguments).run.absolute()))
    from hpc.report.make import make_report

    print(f"report: {make_report(plan)}")
    return 0
