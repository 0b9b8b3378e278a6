"""What a person sees in a terminal: the only room that uses rich."""
