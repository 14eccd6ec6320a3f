"""The pages where people judge answers: rendered on the server, forms that work without scripts."""
