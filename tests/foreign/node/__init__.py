"""The Node client, and how it comes to its one package."""
