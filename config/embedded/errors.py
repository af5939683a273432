"""What goes wrong with the embedded servers, told in one line a person can act on."""


class EmbeddedError(Exception):
    """Say what is wrong and what to do about it; shown without a traceback."""
