"""``python -m harness COMMAND``. Arguments, then one call."""

from harness.command_line import harness_command

if __name__ == "__main__":
    harness_command()
