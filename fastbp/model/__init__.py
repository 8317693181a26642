"""What a network is: its configuration, where its parameters lie, and its file."""
