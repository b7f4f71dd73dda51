"""The embedded runner: Kafka, PostgreSQL and the five services from Python wheels and Kafka's own jars
(DESIGN "The embedded default, and production")."""
