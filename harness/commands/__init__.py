"""The commands of ``python -m harness`` as people type them: arguments in, exit status out."""
