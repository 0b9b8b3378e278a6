"""What the operating system gives and takes: signals, locks, standard streams, and its errors about output files."""
