"""What is done beside sweeps: ``python -m harness COMMAND --help``. Arguments, then one call."""

import sys

try:
    from harness.command_line import harness_command

    harness_command()
except KeyboardInterrupt:  # while modules were imported: a command that has begun says itself what is left
    print("interrupted", file=sys.stderr)
    sys.exit(130)
