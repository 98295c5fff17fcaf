"""The front door for Python: an App, its tasks, and the handles of what was submitted."""
