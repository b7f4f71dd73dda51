"""How those who are not here are told: the dispatcher, webhooks, letters, and the guard before the network."""
