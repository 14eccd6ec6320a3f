"""From a record to words, pictures, a page, a card and a table."""
