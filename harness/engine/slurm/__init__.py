"""Trials as Slurm jobs: what is asked for, what a job does, what the queue says."""
