"""For ``gunicorn wsgi:app``: the settings of the environment become the web application."""

from cds_server.bootstrap import services_from_environment
from smart_app.server import web_application

app = web_application(services_from_environment())
