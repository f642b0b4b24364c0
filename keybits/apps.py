"""The application's registration."""

from django.apps import AppConfig


class KeybitsConfig(AppConfig):
    name = "keybits"
    verbose_name = "keybits"
