"""What is done beside sweeps: ``python -m harness COMMAND --help``. Arguments, then one call."""

from harness.command_line import harness_command

harness_command()
