"""The application's registration, its system checks included."""

from django.apps import AppConfig
from django.core.checks import Tags, register

from keybits import checks


class KeybitsConfig(AppConfig):
    name = "keybits"
    verbose_name = "keybits"

    def ready(self) -> None:
        for check in (checks.check_store, checks.check_settings, checks.check_middleware):
            register(check, Tags.caches)
