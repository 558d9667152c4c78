"""The one error type that a user may see: a sentence that names what is wrong and what to do."""


class AudiorepError(Exception):
    """Bad input, said in one line: what (file, row or key), why, and the remedy. The CLI prints it without a traceback."""


class Interrupted(AudiorepError):
    """Ctrl-C, after what was done has been kept; the message says how to go on."""


class AudioError(AudiorepError):
    """One recording cannot be used; the message names the file and the reason."""


class CollapseError(AudiorepError):
    """Training was stopped because the representation collapsed; the message says which figure told."""
