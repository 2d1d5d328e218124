"""Private files: permissions, owners, links, and SQLite databases in them."""
