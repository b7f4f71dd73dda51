"""`qalqan watch`: public events as they come, each signature checked here; by HTTP (`online`) or from Kafka (`log`)."""
