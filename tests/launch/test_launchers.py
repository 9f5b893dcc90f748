"""The launchers against a `gcloud`, `srun` and metadata server that play the real ones, failures included."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
FAKES = Path(__file__).parent / "fakes"
TRAIN = ("--", "train", "experiments/quickstart.py", "--run.dir", "runs/a b", "--run.overwrite")


def launch(script: str, *words: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | {
        "PATH": f"{FAKES}:{os.environ['PATH']}",
        "FAKE": str(folder / "fake"),
        "STARTS": str(folder),
        "TMPDIR": str(folder),
        "HOME": str(folder),
    }
    return subprocess.run(
        ["bash", str(LAUNCH / script), *words],
        capture_output=True,
        text=True,
        env=variables | environment,
        cwd=folder,
        timeout=280,
    )


def test_shellcheck_finds_nothing() -> None:
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(map(str, LAUNCH.glob("*.sh")))
    done = subprocess.run([tool, "-x", "-P", "SCRIPTDIR", *scripts], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("script", ["local.sh", "slurm.sh", "tpu_pod.sh"])
def test_help_lists_the_options_and_wrong_ones_are_refused(script: str, tmp_path: Path) -> None:
    told = launch(script, "--help", folder=tmp_path)
    assert told.returncode == 0
    assert "--dry-run" in told.stdout
    for words in (["--nonsense"], ["--tries", "0", *TRAIN], []):
        refused = launch(script, *words, folder=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"{script}: error: ")
        assert refused.stderr.count("\n") == 1


# local.sh


def test_local_dry_run_prints_each_command_and_runs_nothing(tmp_path: Path) -> None:
    done = launch("local.sh", "--processes", "2", "--devices", "4", "--dry-run", *TRAIN, folder=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert "JAX_PROCESS_ID=1 JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=4 pairjax" in lines[1]
    assert lines[1].endswith(r"train experiments/quickstart.py --run.dir runs/a\ b --run.overwrite")
    assert list(tmp_path.iterdir()) == []


def test_local_runs_all_processes_at_one_address(tmp_path: Path) -> None:
    done = launch("local.sh", "--processes", "3", "--logs", str(tmp_path / "logs"), *TRAIN, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [(tmp_path / f"logs/process-{i}.log").read_text() for i in range(3)]
    places = [
        re.match(r"place (\d) of 3 at (127\.0\.0\.1:\d+): train .* runs/a b --run.overwrite", text) for text in told
    ]
    assert [place and place[1] for place in places] == ["0", "1", "2"]
    assert len({place[2] for place in places if place}) == 1


def test_local_shows_the_failed_workers_log_and_resumes(tmp_path: Path) -> None:
    done = launch("local.sh", "--tries", "3", *TRAIN, folder=tmp_path, PLAN_0="75:0", PLAN_1="1:0")
    assert done.returncode == 0, done.stderr
    assert "process 1 ended with code 1" in done.stderr
    assert "RuntimeError: of process 1" in done.stderr
    assert "going on from the last checkpoint" in done.stderr
    assert (tmp_path / "0").read_text() == "2\n"
    log = next(tmp_path.glob("pairjax-local-*/process-0.log")).read_text()
    assert "--run.resume" in log
    assert "--run.overwrite" not in log


def test_local_gives_up_after_its_tries_with_the_cause(tmp_path: Path) -> None:
    done = launch("local.sh", "--tries", "2", *TRAIN, folder=tmp_path, PLAN_0="75:75", PLAN_1="1:1")
    assert done.returncode == 1
    assert (tmp_path / "1").read_text() == "2\n"


def test_local_does_not_repeat_bad_input(tmp_path: Path) -> None:
    done = launch("local.sh", "--tries", "5", *TRAIN, folder=tmp_path, PLAN_0="2", PLAN_1="2")
    assert done.returncode == 2
    assert (tmp_path / "0").read_text() == "1\n"


def test_local_begins_again_where_the_crash_came_before_the_run(tmp_path: Path) -> None:
    done = launch("local.sh", "--tries", "2", *TRAIN, folder=tmp_path, PLAN_0="1:none:0", PLAN_1="1:none:0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "0").read_text() == "3\n"


def test_local_hands_a_signal_on_and_waits_for_the_save(tmp_path: Path) -> None:
    (tmp_path / "pairjax").write_text(
        "#!/usr/bin/env bash\ntrap 'sleep 0.5; echo saved; exit 143' TERM\ntouch $STARTS/up.$JAX_PROCESS_ID\n"
        "while true; do sleep 0.05; done\n"
    )
    (tmp_path / "pairjax").chmod(0o755)
    process = subprocess.Popen(
        ["bash", str(LAUNCH / "local.sh"), "--logs", str(tmp_path / "logs"), *TRAIN],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STARTS": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 30
    while len(list(tmp_path.glob("up.*"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert [(tmp_path / f"logs/process-{i}.log").read_text() for i in range(2)] == ["saved\n"] * 2


# slurm.sh


def test_slurm_gives_each_task_its_place(tmp_path: Path) -> None:
    done = launch("slurm.sh", "--nodes", "2", "--gpus", "8", *TRAIN, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for i in range(2):
        told = (tmp_path / f"slurm-logs/process-{i}.log").read_text()
        assert told.startswith(f"place {i} of 2 at n1:20017: train")
        assert "runs/a b" in told


def test_slurm_dry_run_prints_srun(tmp_path: Path) -> None:
    done = launch("slurm.sh", "--nodes", "2", "--srun", "--partition=gpu", "--dry-run", *TRAIN, folder=tmp_path)
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --gpus-per-node=1 --kill-on-bad-exit=1" in done.stdout
    assert "--partition=gpu" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_slurm_resumes_after_a_lost_node(tmp_path: Path) -> None:
    done = launch("slurm.sh", "--nodes", "2", *TRAIN, folder=tmp_path, FAKE_LOSE="1", SLOW="1", PLAN_0="75:0")
    assert done.returncode == 0, done.stderr
    assert "try 1 of 3 ended with code" in done.stderr
    assert "--run.resume" in (tmp_path / "slurm-logs/process-1.log").read_text()


def test_slurm_shows_the_log_of_the_task_that_failed_and_not_of_the_rest(tmp_path: Path) -> None:
    done = launch("slurm.sh", "--nodes", "2", "--tries", "1", *TRAIN, folder=tmp_path, PLAN_0="75", PLAN_1="1")
    assert done.returncode in (1, 75)
    assert "RuntimeError: of process 1" in done.stderr
    assert "process-0" not in done.stderr


# tpu_pod.sh


def pod(
    folder: Path,
    *words: str,
    node: str = "MISSING",
    queue: str = "MISSING",
    refuse: bool = False,
    follow: Any = (0,),
    more: tuple[str, ...] = (),
) -> tuple["subprocess.CompletedProcess[str]", list[list[str]]]:
    """The script's end, and gcloud's calls as `[kind, verb, what follows the name...]`."""
    state = {"node": node, "queue": queue, "waiting": [], "refuse": refuse, "follow": list(follow), "calls": []}
    (folder / "fake").write_text(json.dumps(state))
    done = launch("tpu_pod.sh", "--tpu", "t", "--zone", "z", "--poll", "0", *words, *TRAIN, *more, folder=folder)
    return done, [call[2:] for call in json.loads((folder / "fake").read_text())["calls"]]


def commands(calls: list[list[str]]) -> list[str]:
    """What was run on the workers."""
    return [word[len("--command=") :] for call in calls for word in call if word.startswith("--command=")]


def verbs(calls: list[list[str]]) -> list[str]:
    return [f"{kind} {verb}" for kind, verb, *_ in calls if verb != "describe"]


def test_a_pod_is_asked_for_installed_run_and_fetched(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, "--spot", "--setup", "mount it", "--price", "1.2", "--type", "v5litepod-16")
    assert done.returncode == 0, done.stderr
    assert verbs(calls) == ["queued-resources create", "tpu-vm scp", *["tpu-vm ssh"] * 5, "tpu-vm scp"]
    assert "--spot" in calls[2]
    run = commands(calls)
    assert run[1:3] == ["bash pairjax/launch/tpu_worker.sh install", "mount it"]
    assert run[3].endswith(r"tpu_worker.sh start train experiments/quickstart.py --run.dir runs/a\ b --run.overwrite")
    assert calls[-1][2:5] == ["--recurse", "t:pairjax/runs/a b", "."]
    assert "on 16 chips at 1.2 USD" in done.stderr
    assert "still there and costs money" in done.stderr
    assert "a line of the log" in done.stdout


def test_a_run_in_a_bucket_is_fetched_from_there(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, node="READY", queue="ACTIVE", more=("--run.dir=gs://b/a b",))
    assert done.returncode == 0, done.stderr
    assert calls[-1] == ["--recursive", "gs://b/a b", "."]


def test_a_pod_that_is_ready_is_used_again_and_deleted_by_option(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, "--delete", "--fetch", "", node="READY", queue="ACTIVE")
    assert done.returncode == 0
    assert "queued-resources create" not in verbs(calls)
    assert verbs(calls)[-1] == "queued-resources delete"


def test_a_pre_empted_pod_is_asked_for_again_and_the_run_resumes(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, "--spot", follow=("preempted", 0))
    assert done.returncode == 0, done.stderr
    assert verbs(calls).count("queued-resources create") == 2
    assert verbs(calls).count("queued-resources delete") == 1
    starts = [command for command in commands(calls) if " start " in command]
    assert starts[0].endswith("--run.overwrite")
    assert starts[1].endswith("--run.resume")
    assert "--run.overwrite" not in starts[1]


def test_a_pod_taken_before_the_run_had_a_folder_starts_from_the_beginning(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, "--spot", follow=("preempted", "unmade", 0))
    assert done.returncode == 0, done.stderr
    starts = [command for command in commands(calls) if " start " in command]
    assert [start.rsplit(" ", 1)[1] for start in starts] == ["--run.overwrite", "--run.resume", "--run.overwrite"]


def test_a_pod_that_is_taken_again_and_again_is_given_up(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, "--tries", "3", follow=["preempted"] * 9)
    assert done.returncode == 74
    assert sum(" start " in command for command in commands(calls)) == 3


def test_a_broken_connection_is_taken_up_without_a_new_start(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, node="READY", queue="ACTIVE", follow=("broken", "broken", 0))
    assert done.returncode == 0
    assert sum(" start " in command for command in commands(calls)) == 1


def test_a_failed_workers_log_is_shown(tmp_path: Path) -> None:
    done, _ = pod(tmp_path, "--tries", "1", node="READY", queue="ACTIVE", follow=(75,))
    assert done.returncode == 75
    assert "RuntimeError: of worker 3" in done.stderr


def test_a_request_that_fails_is_told_and_not_repeated(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, refuse=True)
    assert done.returncode == 2
    assert "the request for t FAILED" in done.stderr
    assert verbs(calls).count("queued-resources create") == 1


def test_a_pod_dry_run_calls_nothing(tmp_path: Path) -> None:
    done, calls = pod(tmp_path, "--dry-run", "--delete")
    assert done.returncode == 0
    assert calls == []
    printed = done.stdout.splitlines()
    assert printed[0].startswith("gcloud compute tpus queued-resources create t --zone=z --node-id=t")
    assert printed[-1].startswith("gcloud compute tpus queued-resources delete t --zone=z --force")


# tpu_worker.sh


@pytest.mark.parametrize("endpoints", ["a:0:10.0.0.1,b:1:10.0.0.2", "10.0.0.1,10.0.0.2"])
def test_a_worker_finds_its_place_runs_and_tells_its_end(endpoints: str, tmp_path: Path) -> None:
    shutil.copytree(LAUNCH, tmp_path / "pairjax/launch")
    (tmp_path / "pairjax-venv/bin").mkdir(parents=True)
    shutil.copy(FAKES / "pairjax", tmp_path / "pairjax-venv/bin/pairjax")

    def worker(*words: str) -> "subprocess.CompletedProcess[str]":
        script = str(tmp_path / "pairjax/launch/tpu_worker.sh")
        return launch(script, *words, folder=tmp_path, FAKE_ENDPOINTS=endpoints, PLAN_1="1")

    assert worker("start", "train", "--run.dir", "a b").returncode == 0
    followed = worker("follow")
    assert followed.returncode == 1
    assert "place 1 of 2 at 10.0.0.1:8482: train --run.dir a b" in followed.stdout
    shown = worker("failed").stdout
    assert shown.startswith("---- worker 1 ended with code 1")
    assert "RuntimeError: of process 1" in shown
