"""What a person can choose: every option once, with its type, its range and its help."""
