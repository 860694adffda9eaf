"""What a decoder asks of those who run it: memory before it takes it, and whether to go on."""


class DecodeStopped(Exception):
    """The result of a decode is not needed any more."""


class DecodeControl:
    """Lets every decode take its memory and go on to its end; a service overrides both methods.

    They are called on the thread that decodes.
    """

    def reserve(self, nbytes: int) -> None:
        """Called before a picture is decoded, with the bytes that this takes. May wait, or raise."""

    def check(self) -> None:
        """Called between the steps of a decode; raises where its result is not needed any more."""


UNCONTROLLED = DecodeControl()
