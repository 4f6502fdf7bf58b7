"""The errors a user can cause and mend."""


class BadInputError(ValueError):
    """Something given by the user is wrong. The message is one line: what it is, its value, and what to do.

    The command line prints the message alone and exits with status 2.
    """
