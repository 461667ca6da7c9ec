"""Trials as Slurm jobs, one each in job arrays, through ``submitit``.

Everything is submitted at once, so nothing depends on this process: it watches, and may end at any time. The
same command attaches to the jobs that live and submits what no job covers.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from harness.engine.attempts import is_open
from harness.engine.plan import Options
from harness.engine.progress import TrialProgress
from harness.engine.runners import SILENCE_SECONDS, Observer
from harness.engine.slurm.endings import KILLED_FOR_MEMORY, read_ending
from harness.engine.slurm.job import TrialJob
from harness.engine.slurm.queue import JobState, Submission, ask_queue, cancel, submissions, summary
from harness.engine.slurm.resources import Resources, resources_of
from harness.engine.states import FAILURES
from harness.engine.trial_files import Stage
from harness.engine.watch import Watcher
from harness.engine.work import ALONE, Work
from harness.provenance import PROJECT, now
from harness.sweep import Trial
from model.errors import InputError

FOLDER = "_slurm"
"""Beside the rows; readers of a parquet folder leave out what begins with an underscore"""
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
LARGEST_ARRAY = 1000
"""Jobs; Slurm's own default limit is 1001"""
LOOK_SECONDS = 2.0
QUEUE_SECONDS = 10.0
"""Between two questions to the queue, which is everybody's"""
SAY_SECONDS = 20.0
TRIES = 3
"""Submissions of one trial in one call, where its jobs are lost"""


def make(options: Options) -> SlurmExecutor:
    """The executor of the Slurm cluster that this machine belongs to."""
    if find_spec("submitit") is None:
        raise InputError(
            "--executor: 'slurm': needs the package submitit: pip install 'ifc-ablations[slurm]'"
        )
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise InputError(
            f"--executor: 'slurm': {', '.join(missing)} not found; run this on a Slurm login node"
        )
    resources_of(options, None)
    return SlurmExecutor(options)


@dataclass
class SlurmExecutor:
    """Submits jobs, or finds those of an earlier call, and watches them."""

    options: Options

    def run(self, work: Work, progress: TrialProgress) -> None:
        """Until no job is left. Ctrl-C leaves the jobs alone."""
        if ask_queue() is None:
            raise InputError("--executor: 'slurm': squeue does not answer; is the Slurm controller up?")
        folder = work.ledger.plan.rows / FOLDER
        watch = _Watch(work, folder, progress, self.options.fail_fast)
        arrays = _Arrays(work, folder, resources_of(self.options, _threads(work)), watch.observer)
        with _one_at_a_time(folder):
            watch.attach(submissions(folder))
            watch.add(arrays.submit(watch.live(), work.ledger.plan.chosen))
        try:
            watch.run()
            for _ in range(TRIES - 1):
                if not watch.lost:
                    break
                progress.say("slurm: submitting again what was lost with its jobs")
                watch.add(arrays.submit([], watch.forget_lost()))
                watch.run()
        except KeyboardInterrupt:
            running = sorted({submission.array for submission in watch.submissions})
            progress.say("the jobs go on without this command; it attaches to them when it is run again")
            progress.say("see them: python -m harness status; end them: scancel " + " ".join(running))
            raise


@dataclass
class _Arrays:
    """Submits what no live job covers."""

    work: Work
    folder: Path
    resources: Resources
    observer: Observer

    def submit(self, live: Sequence[tuple[Submission, str]], trials: Sequence[Trial]) -> list[Submission]:
        """What is left of trials: an array that trains, evaluates and counts, and one that times after it."""
        plan, ledger = self.work.ledger.plan, self.work.ledger
        beside = tuple(stage for stage in plan.stages if stage not in ALONE)
        alone = tuple(stage for stage in plan.stages if stage in ALONE)
        covered = {kind: {s.jobs[job] for s, job in live if _is_alone(s) == kind} for kind in (False, True)}
        first = [
            trial
            for trial in trials
            if trial.key not in covered[False]
            and any(ledger.left(trial, stage, self.observer) for stage in beside)
        ]
        coming = covered[False] | {trial.key for trial in first}
        timed = [
            trial
            for trial in trials
            if trial.key not in covered[True]
            and any(ledger.left(trial, stage, self.observer) or trial.key in coming for stage in alone)
        ]
        made: list[Submission] = []
        try:
            made += self._parts(first, beside, [])
            after = {submission.array for submission in made}
            after |= {submission.array for submission, _ in live if not _is_alone(submission)}
            made += self._parts(timed, alone, sorted(after))
        except InputError:
            cancel([submission.array for submission in made])
            raise
        return made

    def _parts(self, trials: list[Trial], stages: tuple[Stage, ...], after: list[str]) -> list[Submission]:
        parts = [trials[start : start + LARGEST_ARRAY] for start in range(0, len(trials), LARGEST_ARRAY)]
        return [self._submit_array(part, stages, after) for part in parts]

    def _submit_array(self, trials: list[Trial], stages: tuple[Stage, ...], after: list[str]) -> Submission:
        import submitit  # only where it is asked for

        log = str(self.folder.resolve() / ("%A_%a" if len(trials) > 1 else "%j"))
        parameters = self.resources.parameters(f"ifc-{self.work.ledger.plan.sweep.name}", _are_alone(stages))
        if after:
            parameters["dependency"] = "afterany:" + ":".join(after)
        logs = {"output": f"{log}.out", "error": f"{log}.err"}
        parameters["additional_parameters"] |= logs
        # srun has its own idea of where output goes, and since Slurm 22.05 of processors too.
        step = {**logs, "open-mode": "append", "cpus-per-task": parameters.get("cpus_per_task")}
        parameters["srun_args"] = [f"--{key}={value}" for key, value in step.items() if value is not None]
        parameters["setup"] = [f'export PYTHONPATH="{PROJECT}${{PYTHONPATH:+:$PYTHONPATH}}"']
        jobs = [
            TrialJob(self.work.part(trial), trial, stages, self.folder.resolve() / "ended")
            for trial in trials
        ]
        (self.folder / "ended").mkdir(parents=True, exist_ok=True)
        executor = submitit.SlurmExecutor(self.folder.resolve() / "submitit", self.resources.timeouts)
        try:
            executor.update_parameters(**parameters)
            with redirect_stderr(StringIO()):  # it prints what it raises
                names = [job.job_id for job in executor.submit_array(jobs)]
        except submitit.core.utils.FailedJobError as error:
            raise InputError(f"--resources: {_one_line(str(error))}") from None
        submission = Submission(
            names[0].partition("_")[0],
            stages,
            {name: trial.key for name, trial in zip(names, trials, strict=True)},
            {name: trial.label() for name, trial in zip(names, trials, strict=True)},
            now(),
            parameters,
        )
        submission.write(self.folder)
        return submission


@dataclass
class _Watch:
    """The jobs that this call waits for: those it has submitted, and those it found alive."""

    work: Work
    folder: Path
    progress: TrialProgress
    fail_fast: bool
    submissions: list[Submission] = field(default_factory=list)
    _waits_for: dict[str, Submission] = field(default_factory=dict)
    _states: dict[str, JobState] = field(default_factory=dict)
    """The last that the queue has said of each"""
    _ended: Counter[str] = field(default_factory=Counter)
    """Job -> how often in turn the queue has called it ended"""
    lost: list[Trial] = field(default_factory=list)
    """Trials whose jobs have died of nothing that the trial or a person has done"""
    _asked: float = 0.0
    _said: tuple[float, str] = (0.0, "")
    _ending: bool = False
    """We have asked the jobs to end"""

    def __post_init__(self) -> None:
        ledger = self.work.ledger
        self.observer = Observer(ledger.plan.options.results)
        self._watcher = Watcher(ledger, self.observer, self.progress)
        self._trials = {trial.key: trial for trial in ledger.plan.chosen}

    def add(self, made: Sequence[Submission]) -> None:
        """Wait for jobs that have just been submitted."""
        for submission in made:
            self.submissions.append(submission)
            self._waits_for |= dict.fromkeys(submission.jobs, submission)
            self._states |= dict.fromkeys(submission.jobs, JobState("PENDING", "just submitted"))
            what = ", ".join(submission.stages).replace("_", ", ")
            self.progress.say(f"slurm: {len(submission.jobs)} jobs submitted as {submission.array} ({what})")

    def attach(self, found: list[Submission]) -> None:
        """Wait for the jobs of earlier calls that live."""
        self._ask()
        for submission in found:
            lives = [job for job in submission.jobs if self._lives(job)]
            if lives:
                self.submissions.append(submission)
                self._waits_for |= dict.fromkeys(lives, submission)
                self.progress.say(f"slurm: attached to {len(lives)} jobs of {submission.array}")

    def live(self) -> list[tuple[Submission, str]]:
        """The jobs that are waited for."""
        return [(submission, job) for job, submission in self._waits_for.items()]

    def forget_lost(self) -> list[Trial]:
        """The lost trials, to be submitted again, once it is sure that their runners are dead."""
        found, self.lost = [trial for trial in self._trials.values() if trial in self.lost], []
        patience = time.monotonic() + SILENCE_SECONDS + 2 * LOOK_SECONDS
        while any(self.work.ledger.is_taken(trial, self.observer) for trial in found):
            if time.monotonic() > patience:
                break
            time.sleep(LOOK_SECONDS)
        return found

    def run(self) -> None:
        """Look until no job is left. Raises :class:`InputError` when a trial has refused its input."""
        refused: list[str] = []
        self._asked = time.monotonic()
        while self._waits_for:
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - self._asked > QUEUE_SECONDS:
                self._ask()
                self._say_where_they_stand()
            self._watcher.look()
            for job in [job for job in self._waits_for if self._is_over(job)]:
                refused += self._has_ended(job, self._waits_for.pop(job))
            if (refused or (self.fail_fast and self._has_failed())) and not self._ending:
                self._end_all("a trial's input has to be mended" if refused else "--fail-fast")
        self._watcher.look()
        if self._ending:
            self.lost.clear()
        if refused:
            raise InputError(refused[0])

    def _lives(self, job: str) -> bool:
        """Not ended by its own word or Slurm's; one that the queue has forgotten has ended long ago."""
        if self._has_spoken(job):
            return False
        return job in self._states and self._states[job].lives

    def _is_over(self, job: str) -> bool:
        """Ended by its own word, or twice in turn by Slurm's: one that is requeued may seem so once."""
        return not self._lives(job) and (self._ended[job] > 1 or self._has_spoken(job))

    def _has_spoken(self, job: str) -> bool:
        return read_ending(self.folder / "ended", job) is not None

    def _ask(self) -> None:
        self._asked = time.monotonic()
        queue = ask_queue()
        if queue is None:  # a controller that restarts: what it said last holds
            self.progress.say("slurm: squeue does not answer; asking again")
            return
        gone = JobState("COMPLETED", "no longer known to the queue")
        kept = {job: gone if state.lives else state for job, state in self._states.items()}
        self._states = kept | queue
        for job in self._waits_for:
            self._ended[job] = 0 if self._states[job].lives else self._ended[job] + 1

    def _say_where_they_stand(self) -> None:
        text = summary(self._states[job] for job in self._waits_for if job in self._states)
        if text and text != self._said[1] and time.monotonic() - self._said[0] > SAY_SECONDS:
            self._said = (time.monotonic(), text)
            self.progress.say(f"slurm: {text}")

    def _has_ended(self, job: str, submission: Submission) -> list[str]:
        """Say what is known of an end that was none of a trial's own; the error if the input was refused."""
        ending, label = read_ending(self.folder / "ended", job), submission.labels[job]
        if ending is not None and ending.state == "input_error":
            return [ending.error]
        if ending is not None and ending.state != "failed":
            if ending.state != "done":
                self.progress.say(f"{label}: job {job} ended: {ending.state}")
            return []
        trial, state = self._trials.get(submission.jobs[job]), self._states[job].state
        attempt = self.work.ledger.unclosed(trial) if trial else None
        if attempt is not None and is_open(attempt, self.observer):
            attempt = None  # another runner is at it
        log = self.folder / f"{job}.err"
        last = ending.error if ending else (attempt.last_log_lines(1) if attempt else _last_line(log))
        self.progress.say(f"{label}: job {job} ended {state}" + (f": {last}" if last else "") + f" ({log})")
        if trial and state not in (KILLED_FOR_MEMORY, "CANCELLED"):
            self.lost.append(trial)
        if trial and attempt and state == KILLED_FOR_MEMORY:
            error = f"Slurm job {job} ended {KILLED_FOR_MEMORY}"
            self.work.ledger.close_for_memory(trial, attempt, error, self.observer)
        return []

    def _has_failed(self) -> bool:
        ledger = self.work.ledger
        return any(
            state in FAILURES
            for trial in ledger.plan.chosen
            if any(job_trial == trial.key for s in self.submissions for job_trial in s.jobs.values())
            for state in ledger.states(trial, self.observer).values()
        )

    def _end_all(self, why: str) -> None:
        self._ending = True
        self.progress.say(f"slurm: ending {len(self._waits_for)} jobs: {why}")
        cancel(list(self._waits_for))


def _threads(work: Work) -> int | None:
    """Threads that the recipe fixes."""
    return work.ledger.plan.trials[0].config.train.threads


def _is_alone(submission: Submission) -> bool:
    return _are_alone(submission.stages)


def _are_alone(stages: Sequence[str]) -> bool:
    return set(stages) <= set(ALONE)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of two calls at a time the second finds the jobs of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _last_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
