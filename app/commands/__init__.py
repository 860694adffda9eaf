"""What `rcnn` does, one file a command; app/cli.py imports each one only when it is asked for."""

USAGE = 2  # exit code of a call that cannot be meant


class CommandFailed(Exception):
    """The command ends here: the text is for the person, `code` for the shell."""

    def __init__(self, text: object, code: int = 1) -> None:
        super().__init__(str(text))
        self.code = code
