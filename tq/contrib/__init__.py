"""For programs that use other things, too: Celery, FastAPI, Django, OpenTelemetry. Each module says what has to be installed."""
