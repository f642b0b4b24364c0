"""The application's registration; freshness is declared once all models are known."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"
    verbose_name = "Screenshot catalogue"

    def ready(self) -> None:
        from catalog import freshness  # noqa: PLC0415 - needs the models

        freshness.declare()
