"""Files, folders, downloads and streams: what the operating system gives to the export stage."""
