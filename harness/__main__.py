"""The smaller commands: ``python -m harness COMMAND --help``. Arguments, then one call."""

from harness.command_line import harness_command

if __name__ == "__main__":
    harness_command()
