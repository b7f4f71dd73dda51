"""What notify makes of public events, pure: what a reader is shown, who is told, when."""
