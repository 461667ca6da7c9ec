"""Run a sweep: one YAML to the table. Arguments, then one call."""

from harness.command_line import sweep_command

if __name__ == "__main__":
    sweep_command()
