"""The commands of `rcnn`, one file or folder each; app/cli.py imports one when it runs."""

USAGE = 2  # exit code of wrong usage


class CommandFailed(Exception):
    """Ends the command with a text for the user and an exit code."""

    def __init__(self, text: object, code: int = 1) -> None:
        super().__init__(str(text))
        self.code = code
