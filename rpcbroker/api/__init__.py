"""The caller side: the REST API. Handlers know no framework; Klein routes are one table."""
