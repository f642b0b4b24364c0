"""The WSGI entry point of every peer that is Django's."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
