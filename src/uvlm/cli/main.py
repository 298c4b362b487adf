"""`uvlm COMMAND ...`: find the command's module, run it, turn errors into exit codes.

The table of commands is data, and a command's module is imported only when it is called, so that
`uvlm --help` imports nothing heavy.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

from uvlm import __version__
from uvlm.errors import UvlmError
from uvlm.registry import COMMANDS

__all__ = ["main"]


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: uvlm [--version] [-h] COMMAND ...\n\n"
        "From 3D CT studies to radiology reports: train the models and run them.\n\n"
        f"commands:\n{rows}\n\n"
        "`uvlm COMMAND --help` explains one command. Exit codes: 0 complete, 1 failed, 2 wrong\n"
        "input, 3 partly done (the rest is recorded)."
    )


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"uvlm {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        print(f"uvlm: unknown command {name!r}.\n\n{usage()}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvlm").setLevel(logging.INFO)
    try:
        code = importlib.import_module(COMMANDS[name][0]).main(arguments[1:])
        return int(code)
    except UvlmError as error:
        print(f"uvlm {name}: {_message(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _message(error: UvlmError) -> str:
    """From a loader process PyTorch passes on the traceback as text; it ends with the message."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.rpartition(f".{type(error).__name__}: ")[2].strip()


if __name__ == "__main__":
    sys.exit(main())
