"""What commands accept as the name of something, and as the name of a user."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

__all__ = ["user_named", "utf8"]


def utf8(argument: str) -> str:
    """Return `argument`, unless it was not UTF-8: Python makes lone surrogates of such bytes (PEP 383)."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError(f"{argument!r} is not UTF-8") from None
    return argument


def user_named(name: str) -> Any:
    """Return the user with this name. Raises `CommandError` if there is none."""
    model = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist:
        raise CommandError(
            f"There is no user {name!r}; create one with `manage.py createsuperuser` or in the admin."
        ) from None
