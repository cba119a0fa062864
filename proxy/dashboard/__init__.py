"""The pages below ``/dashboard``: templates and static files in the package, no build step."""
