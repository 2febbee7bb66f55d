"""The command line: one command a file, which parses, calls the library and hands the result to `render`."""
