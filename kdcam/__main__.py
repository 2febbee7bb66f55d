"""`python -m kdcam`: the command line, also under torchrun."""

from importlib import import_module

if __name__ == "__main__":
    import_module("kdcam.cli.main").main()
