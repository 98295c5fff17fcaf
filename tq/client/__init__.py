"""The client: ``core`` decides, ``verbs`` and ``session`` know the requests, ``blocking`` is for threads."""
