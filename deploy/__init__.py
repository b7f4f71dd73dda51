"""How Qalqan is run: embedded on one machine (`deploy.local`), or on a cluster and a database that somebody
operates."""
