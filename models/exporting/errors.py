"""What an export refuses."""


class ExportError(ValueError):
    """A model that the format cannot hold, or a file that answers otherwise; the text says what to do."""
