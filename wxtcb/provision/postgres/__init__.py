"""Journal in a PostgreSQL database, for any number of processes and hosts. Needs the extra `postgres`."""
