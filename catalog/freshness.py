"""The one list of what each change makes stale."""


def declare() -> None:
    """Tell keybits."""
