"""The ASGI entry point of every peer that is Django's."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
