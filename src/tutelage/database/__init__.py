"""Databases of records: SQLite in a file, or PostgreSQL by its URL."""
